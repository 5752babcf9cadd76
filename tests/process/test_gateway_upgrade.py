"""One gateway takes over from another: no request fails, no plan or lease is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.process.gateway_process import (
    DEADLINE_S,
    Gateway,
    Hammer,
    Servers,
    Stream,
    failed_start,
    plan,
    route,
)

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]


@pytest.fixture
async def successor(
    gateway: Gateway, tmp_path: Path, session: aiohttp.ClientSession
) -> AsyncIterator[Gateway]:
    """Another process with the same file, state and spool."""
    made = Gateway(tmp_path, session)
    yield made
    await made.end_whatever_runs()


async def test_an_upgrade_under_load_fails_no_request_and_keeps_plan_and_lease(
    gateway: Gateway, successor: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers), workers=2)
    await gateway.start()
    await gateway.done("PUT", "/v1/routes/rag/plan", plan(servers, 7, lease_s=30))
    before = await gateway.status()
    async with Hammer(gateway.url) as hammer:
        await hammer.until_answered(200)
        await successor.start("--upgrade")
        assert (successor.url, successor.admin) == (gateway.url, gateway.admin)
        await hammer.until_answered(200)
        assert await gateway.wait() == 0
        await hammer.until_answered(200)
        after = await successor.status()
    assert hammer.failed == []
    assert set(hammer.answered) == {"A", "B"}
    assert after.plan == before.plan
    assert after.share_bp == 5000
    assert after.lease is not None
    assert before.lease is not None
    assert 0 < after.lease.remaining_s < before.lease.remaining_s
    counted = sum(arm.requests for arm in (await successor.status()).arms.values())
    assert counted == hammer.count
    assert await successor.end() == 0
    assert sorted(path.name for path in gateway.state.iterdir()) == ["lock", "plan-rag.json"]


async def test_a_stream_under_way_ends_in_the_old_process(
    gateway: Gateway, successor: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers))
    await gateway.start()
    servers.may_answer.clear()
    stream = await Stream.open(gateway.url)
    await successor.start("--upgrade")
    assert gateway.runs
    servers.may_answer.set()
    await stream.finish()
    stream.close()
    assert await gateway.wait() == 0
    assert await successor.versions() == {"A"}
    assert await successor.end() == 0


async def test_a_signal_starts_the_successor_and_more_workers_come_with_the_file(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers), workers=1)
    await gateway.start()
    gateway.write_file(route(servers), workers=3)
    async with Hammer(gateway.url, 4) as hammer:
        await hammer.until_answered(50)
        gateway.signal(signal.SIGUSR2)
        await gateway.until_log("process")
        assert await gateway.wait() == 0
        await hammer.until_answered(50)
        _, metrics = await gateway.ask("GET", "/metrics")
    assert hammer.failed == []
    assert metrics.count(b"gateway_worker_up{") == 3
    pid = int((gateway.state / "lock").read_text())
    assert pid != gateway.pid
    os.kill(pid, signal.SIGTERM)
    await gateway.until_refused()


async def test_a_successor_that_cannot_start_changes_nothing(
    gateway: Gateway, successor: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers))
    await gateway.start()
    gateway.write_file(route(servers, stikcy={}))
    assert await failed_start(successor, "--upgrade") == 2
    gateway.signal(signal.SIGUSR2)
    await gateway.until_log("the upgrade failed: process")
    # The spool cannot be opened: it fails after it was given everything.
    gateway.write_file(route(servers), spool={"dir": str(gateway.file), "limit": "64MiB"})
    assert await failed_start(successor, "--upgrade") == 2
    await gateway.until_log("the upgrade failed, this process serves on")
    await gateway.done("PUT", "/v1/routes/rag/plan", plan(servers, 7))
    assert await gateway.versions() == {"A", "B"}
    # And what is in order takes over all the same.
    gateway.write_file(route(servers))
    await successor.start("--upgrade")
    assert await successor.versions() == {"A", "B"}
    assert await gateway.wait() == 0
    assert await successor.end() == 0


async def test_two_gateways_on_one_state_directory_are_refused(
    gateway: Gateway, successor: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers))
    assert await failed_start(successor, "--upgrade") == 2
    assert "no gateway runs on" in gateway.log.read_text()
    await gateway.start()
    assert await failed_start(successor) == 2
    assert f"is in use by another gateway (process {gateway.pid})" in gateway.log.read_text()
    assert await gateway.versions() == {"A"}


async def test_a_unix_socket_is_taken_over_as_well(
    gateway: Gateway, successor: Gateway, servers: Servers, tmp_path: Path
) -> None:
    listen = f"unix:{tmp_path}/data.sock"
    gateway.write_file(route(servers), listen=listen, workers=2)
    await gateway.start()
    assert gateway.url == listen
    async with Hammer(listen) as hammer:
        await hammer.until_answered(100)
        await successor.start("--upgrade")
        assert await gateway.wait() == 0
        await hammer.until_answered(100)
    assert hammer.failed == []
    assert await successor.end() == 0
    assert not (tmp_path / "data.sock").exists()


async def test_asked_to_end_during_an_upgrade_the_old_one_hurries(
    gateway: Gateway, successor: Gateway, servers: Servers
) -> None:
    """An idle connection alone would keep it for over a minute."""
    gateway.write_file(route(servers))
    await gateway.start()
    host, _, port = gateway.url.removeprefix("http://").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    await gateway.versions(1)
    await successor.start("--upgrade")
    assert gateway.runs
    began_s = time.monotonic()
    assert await gateway.end(signal.SIGTERM) == 0
    assert time.monotonic() - began_s < DEADLINE_S
    writer.close()
    assert await successor.end() == 0
