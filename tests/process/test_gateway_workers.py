"""Workers under their supervisor: killed, stopped, orphaned, and told of plans and routes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlops.contracts.plan import RoutePlan
from tests.process.gateway_process import DEADLINE_S, Gateway, Hammer, Servers, plan, route

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

CONNECTIONS = 16


def everything_to(servers: Servers, version: str, generation: int) -> RoutePlan:
    return RoutePlan(route="rag", generation=generation, salt="s", stable=servers.slots[version])


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def metric(gateway: Gateway, name: str) -> dict[tuple[str, ...], float]:
    _, text = await gateway.ask("GET", "/metrics")
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == name
    }


async def test_a_plan_that_is_answered_is_in_force_in_every_worker(
    gateway: Gateway, servers: Servers
) -> None:
    """Nothing sent after the answer goes by the plan before, on any connection to any worker."""
    gateway.write_file(route(servers), workers=2)
    await gateway.start()
    async with Hammer(gateway.url, CONNECTIONS) as hammer:
        for generation in range(2, 22):
            version = "AB"[generation % 2]
            hammer.expect(None)
            await gateway.done(
                "PUT", "/v1/routes/rag/plan", everything_to(servers, version, generation)
            )
            hammer.expect(version)
            await hammer.until_answered(4 * CONNECTIONS)
    assert hammer.failed == []
    assert set(hammer.answered) == {"A", "B"}


async def test_a_killed_worker_loses_only_what_was_in_flight_on_it_and_is_replaced(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers), workers=2)
    await gateway.start()
    await gateway.done("PUT", "/v1/routes/rag/plan", everything_to(servers, "B", 7))
    before = gateway.workers()
    async with Hammer(gateway.url, CONNECTIONS) as hammer:
        await hammer.until_answered(200)
        counted = (await metric(gateway, "http_server_request_duration_seconds_count")).values()
        os.kill(before[0], signal.SIGKILL)
        # Whoever was connected to it fails once, and nobody else: what waited in its queue, and
        # whoever comes before it is replaced, is taken by the other.
        await hammer.until_answered(200)
        await until(lambda: len(set(gateway.workers()) - set(before)) == 1)
        await hammer.until_answered(200)
        assert len(hammer.failed) <= CONNECTIONS
        after = (await metric(gateway, "http_server_request_duration_seconds_count")).values()
    assert set(hammer.answered) == {"B"}
    assert sum(after) > sum(counted)
    assert before[1] in gateway.workers()
    await gateway.until_log("worker 0 is back")
    assert await metric(gateway, "gateway_worker_up") == {("0",): 1, ("1",): 1}
    assert await metric(gateway, "gateway_worker_restarts_total") == {("0",): 1, ("1",): 0}
    assert await gateway.versions() == {"B"}


async def test_a_plan_does_not_wait_for_a_worker_that_hangs(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers), workers=2)
    await gateway.start()
    stopped, other = gateway.workers()
    os.kill(stopped, signal.SIGSTOP)
    await gateway.done("PUT", "/v1/routes/rag/plan", everything_to(servers, "B", 7))
    await until(lambda: not runs(stopped) and len(gateway.workers()) == 2)
    assert other in gateway.workers()
    assert await gateway.versions() == {"B"}


async def test_a_lease_ends_while_the_supervisor_is_stopped(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers), workers=2)
    await gateway.start()
    await gateway.done("PUT", "/v1/routes/rag/plan", plan(servers, 7, lease_s=1.5))
    gateway.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(DEADLINE_S):
            while await gateway.versions() != {"A"}:
                await asyncio.sleep(0.02)
    finally:
        gateway.signal(signal.SIGCONT)
    assert (await gateway.status()).share_bp == 0
    assert await metric(gateway, "gateway_worker_restarts_total") == {("0",): 0, ("1",): 0}


async def test_a_killed_supervisor_leaves_nothing_behind_and_cuts_nothing_short(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers), workers=2)
    await gateway.start()
    workers = gateway.workers()
    servers.may_answer.clear()
    waiting = asyncio.create_task(gateway.versions(8))
    await until(lambda: servers.waiting == 8)
    await gateway.end(signal.SIGKILL)
    await gateway.until_refused()
    assert all(map(runs, workers))
    servers.may_answer.set()
    assert await waiting == {"A"}
    await until(lambda: not any(map(runs, workers)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_who_had_connected_before_the_end_is_answered(
    gateway: Gateway, servers: Servers, number: signal.Signals
) -> None:
    gateway.write_file(route(servers), workers=2)
    await gateway.start()
    workers = gateway.workers()
    for each in workers:
        os.kill(each, signal.SIGSTOP)
    waiting = asyncio.create_task(gateway.versions(8))
    await until(lambda: queued(gateway) == 8)
    gateway.signal(number)
    if number == signal.SIGKILL:
        await gateway.wait()
    for each in workers:
        os.kill(each, signal.SIGCONT)
    assert await waiting == {"A"}
    await gateway.wait()
    await until(lambda: not any(map(runs, workers)))


def queued(gateway: Gateway) -> int:
    """Connections to the data port that nobody has accepted."""
    port = int(gateway.url.rpartition(":")[2])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")]
    return sum(int(row[4].partition(":")[2], 16) for row in listening)


async def test_a_signal_to_the_whole_group_ends_it_in_order(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers), workers=2)
    await gateway.start()
    servers.may_answer.clear()
    waiting = asyncio.create_task(gateway.versions(8))
    async with asyncio.timeout(DEADLINE_S):
        await servers.asked.wait()
    for pid in (*gateway.workers(), gateway.pid):
        os.kill(pid, signal.SIGTERM)
    async with asyncio.timeout(DEADLINE_S):
        while (await gateway.ask("GET", "/readyz"))[0] != 503:
            await asyncio.sleep(0.02)
    servers.may_answer.set()
    assert await waiting == {"A"}
    assert await gateway.wait() == 0
    assert "is replaced" not in gateway.log.read_text()


async def test_a_reload_changes_routes_without_a_failed_request(
    gateway: Gateway, servers: Servers
) -> None:
    """Routes and their settings change twenty times under load; the data port serves on."""
    rag = route(servers)
    more = {
        **route(servers, stable=msgspec.to_builtins(servers.slots["B"])),
        "name": "more",
        "match": {"prefix": "/query", "methods": ["GET"]},
    }
    gateway.write_file(rag, workers=2)
    await gateway.start()
    async with Hammer(gateway.url, CONNECTIONS) as hammer:
        for turn in range(20):
            sticky: dict[str, Any] = {"sticky": {"header": f"x-user-{turn}"}}
            routes = [more, {**rag, **sticky}] if turn % 2 else [{**rag, **sticky}]
            gateway.write_file(*routes, workers=2)
            hammer.expect(None)
            await gateway.done("POST", "/v1/reload")
            hammer.expect("B" if turn % 2 else "A")
            await hammer.until_answered(2 * CONNECTIONS)
        hammer.expect(None)
        gateway.write_file(more, workers=2)
        gateway.signal(signal.SIGHUP)
        await gateway.until_log("route 'rag' is gone")
        await hammer.until_answered(2 * CONNECTIONS)
    assert hammer.failed == []
    status, body = await gateway.ask("GET", "/v1/routes/rag")
    assert status == 404, body
    counted = (await metric(gateway, "http_server_request_duration_seconds_count")).values()
    assert sum(counted) == hammer.count


async def test_a_reload_keeps_the_plan_of_a_route_that_comes_back(
    gateway: Gateway, servers: Servers
) -> None:
    rag, other = route(servers), {**route(servers), "name": "other"}
    gateway.write_file(rag)
    await gateway.start()
    await gateway.done("PUT", "/v1/routes/rag/plan", everything_to(servers, "B", 7))
    gateway.write_file(other)
    await gateway.done("POST", "/v1/reload")
    assert await gateway.versions() == {"A"}
    gateway.write_file(rag)
    await gateway.done("POST", "/v1/reload")
    assert (await gateway.status()).plan.generation == 7
    assert await gateway.versions() == {"B"}


async def test_a_taken_port_is_refused_and_named(
    gateway: Gateway, servers: Servers, tmp_path: Path
) -> None:
    gateway.write_file(route(servers))
    await gateway.start()
    other = Gateway(tmp_path / "other", gateway.session)
    other.file.parent.mkdir()
    other.write_file(route(servers), listen=gateway.url.removeprefix("http://"))
    with pytest.raises(AssertionError):
        await other.start()
    assert await other.wait() == 2
    assert f"cannot listen on {gateway.url}" in other.log.read_text()
    assert await gateway.versions() == {"A"}


async def test_a_long_body_passes_through_memory_that_a_worker_has(
    gateway: Gateway, servers: Servers
) -> None:
    """Without memory that it keeps, each piece of a body would be new pages: 256 faults a MiB."""
    gateway.write_file(route(servers))
    await gateway.start()
    (worker,) = gateway.workers()
    mebibytes = 48
    faults = []
    for _ in range(3):
        sent = BytesIO(bytes(mebibytes * 2**20))
        async with gateway.session.post(f"{gateway.url}/query", data=sent) as answer:
            assert await answer.text() == str(mebibytes * 2**20)
        faults.append(page_faults(worker))
    assert faults[2] - faults[1] < 32 * mebibytes


def page_faults(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[7])  # minflt, proc_pid_stat(5)


async def test_more_clients_than_there_are_descriptors_for_keep_none_from_its_answer(
    gateway: Gateway, servers: Servers
) -> None:
    """Those taken in are answered, although each needs a second descriptor for the upstream."""
    gateway.write_file(route(servers))
    await gateway.start(descriptors=320)
    assert "320 open files here (ulimit -Hn): at most 51 clients" in gateway.log.read_text()
    servers.may_answer.clear()
    asking = [asyncio.create_task(_status(gateway.url)) for _ in range(200)]
    async with asyncio.timeout(DEADLINE_S):
        while servers.waiting < 51:
            await asyncio.sleep(0.02)
    servers.may_answer.set()
    statuses = await asyncio.gather(*asking)
    assert statuses.count("200") >= 51
    assert set(statuses) <= {"200", "503", "closed"}


async def _status(url: str) -> str:
    """Of one answer, on a connection of its own."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    try:
        async with asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /query HTTP/1.1\r\nhost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            writer.close()
            return head[9:12].decode()
    except (ConnectionError, asyncio.IncompleteReadError):
        return "closed"
