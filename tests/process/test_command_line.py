"""`rag-mlops gateway` without a file: one command in front of two servers."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.process.gateway_process import DEADLINE_S, READY, Servers

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

ANY_PORTS = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")


async def test_two_addresses_are_enough_for_a_canary(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    addresses = [servers.slots[version].endpoints[0] for version in "AB"]
    options = ("--stable", addresses[0], "--canary", addresses[1], "--weight", "50", *ANY_PORTS)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "gateway", *options, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            ready = READY.fullmatch((await process.stdout.readline()).decode())
            assert ready
            async with aiohttp.ClientSession() as session:
                answers = set()
                while answers != {"A", "B"}:
                    async with session.get(f"{ready[1]}/query") as answer:
                        answers.add(await answer.text())
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
