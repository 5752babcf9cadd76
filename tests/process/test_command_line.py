"""The command line against real processes: without a file, through a release, in a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import yaml

from mlops.local.stack import Stack
from scripts.output_shapes import shapes
from tests.process.gateway_process import READY, Servers

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = "120"
SHAPES = dict(shapes())
RATE_PER_S = 40.0
"""Enough to be judged; what is tested is the command line."""
POLICY = {
    "steps": [{"setWeight": 50}, {"pause": {}}],
    "lease": "20s",
    "grace": "1s",
    "block": 1,
    "settle": 1,
}
"""Evidence is there to be drawn as soon as it can be."""
COMMAND_S = 60.0
"""For a program to start, or to start and end, beside a dozen others."""
SHOWN_S = 60.0
"""For evidence to be drawn: it goes through gateway, recorder, engine and agent."""

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
        async with asyncio.timeout(COMMAND_S):
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


async def test_a_release_from_start_to_rollback(
    stack: Stack, upstreams: tuple[Any, Any], load: Any, tmp_path: Path
) -> None:
    routes = [
        {
            "name": "rag",
            "match": {"prefix": "/"},
            "stable": {"version": "1", "endpoints": [upstreams[0].url]},
            "sticky": {"header": "x-user-id"},
        }
    ]
    await asyncio.to_thread(stack.start_clickhouse)
    await asyncio.to_thread(stack.start_gateway, routes)
    await asyncio.to_thread(stack.start_recorder)
    await asyncio.to_thread(stack.start_agent)
    policy = tmp_path / "policy.yaml"
    policy.write_text(yaml.safe_dump(POLICY))
    command = CommandLine(stack)
    start = (
        *("release", "start", "rag", "--version", "2", "--endpoint", upstreams[1].url),
        *("--policy", str(policy), "--reason", "a test"),
    )
    async with load(stack.addresses["gateway"], RATE_PER_S) as traffic:
        await traffic.until_answered(1)
        assert (await command.data(*start, "--dry-run"))["request"]["method"] == "POST"
        assert await command.data("release", "list") == []
        started = await command.data(*start)
        screen = await command.until_shown(started["id"], "errors", "▁")
        for said in ("release 2 on route rag", "no worse", "weight 50 %"):
            assert said in screen
        (listed,) = await command.data("release", "list")
        assert (listed["id"], listed["version"]) == (started["id"], "2")
        (seen,) = (await command.data("status"))["routes"]
        assert seen["release"]["id"] == started["id"]
        assert (await command.run("status", "rag")).startswith("rag: ")
        (answer,) = await command.data("weights", "get", "rag")
        assert answer["status"]["plan"]["canary_share_bp"] == 5000
        dry = await command.run("weights", "set", "rag", "stable=90", "canary=10", "--dry-run")
        assert "would be set to stable=90 canary=10" in dry
        assert "canary 2 50 %" in dry
        await command.run("rollback", "rag", "--reason", "seen enough")
        assert "rolled_back" in await command.run("release", "status", "rag", code=1)
        events = await command.data("release", "history", started["id"])
        assert any("seen enough" in event["reason"] for event in events)


async def test_a_part_that_does_not_start_is_said_and_the_rest_is_ended(tmp_path: Path) -> None:
    (tmp_path / "var/up").mkdir(parents=True)
    (tmp_path / "var/up/s3").write_text("where a folder should be")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore::SyntaxWarning", "-m", "cli", "up"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert "Error: s3 ended with code" in said.decode()
    assert f"all of it: {tmp_path / 'var/up/logs/s3.log'}" in said.decode()
    assert "cli/local.py" not in said.decode(), "no traceback of ours"
    assert not (tmp_path / "var/up/stack.json").exists()


class CommandLine:
    """`rag-mlops`, told by the environment where the stack is."""

    def __init__(self, stack: Stack) -> None:
        self._environ = {
            **os.environ,
            "MLOPS_GATEWAY_ADMIN_URLS": stack.addresses["admin"],
            "MLOPS_AGENT_URL": stack.addresses["agent"],
            "COLUMNS": COLUMNS,
            **stack.secrets,
        }

    async def run(self, *words: str, code: int = 0) -> str:
        """What it prints; fails where it ends with another code."""
        process = await self._start(*words, stdout=asyncio.subprocess.PIPE)
        async with asyncio.timeout(COMMAND_S):
            said, _ = await process.communicate()
        assert process.returncode == code, said.decode()
        return said.decode()

    async def data(self, *words: str) -> Any:
        """What it prints for programs, which is what the reference says."""
        printed = json.loads(await self.run(*words, "-o", "json"))
        path = next(path for path in SHAPES if " ".join(words).startswith(path))
        assert any(_is(kind, printed) for kind in SHAPES[path].kinds), (path, printed)
        return printed

    async def until_shown(self, release_id: str, *texts: str) -> str:
        """What `release status` draws in a terminal, once all of these are in it."""
        ours, theirs = pty.openpty()
        process = await self._start("release", "status", release_id, stdout=theirs)
        os.close(theirs)
        os.set_blocking(ours, False)
        screen = ""
        try:
            async with asyncio.timeout(SHOWN_S):
                while not all(text in screen for text in texts):
                    await asyncio.sleep(0.1)
                    screen += _read(ours)
        finally:
            process.kill()
            await process.wait()
            os.close(ours)
        return screen

    async def _start(self, *words: str, stdout: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "ignore::SyntaxWarning", "-m", "cli", *words),
            stdout=stdout,
            stderr=asyncio.subprocess.STDOUT,
            env={**self._environ, "TERM": "xterm"},
        )


def _is(kind: Any, printed: Any) -> bool:
    """All of it, and nothing beside it, is of this type."""
    try:
        return bool(json.loads(msgspec.json.encode(msgspec.convert(printed, kind))) == printed)
    except msgspec.ValidationError:
        return False


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 1 << 20).decode("utf-8", errors="replace")
    except BlockingIOError:
        return ""
