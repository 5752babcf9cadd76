"""A real gateway process: kills, restarts, leases, reloads and ends, seen through both ports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from gateway.spool.format import RecordType, tally_of
from gateway.spool.reader import WorkerReader
from gateway.spool.segments import workers_of
from mlops.contracts.api import RouteStatus
from mlops.contracts.plan import RoutePlan, Slot, promoted
from mlops.contracts.tally import Tally

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

START_S = 20.0
"""Far above the 2 s that a start may take, for a machine that is busy."""
DEADLINE_S = 15.0
OPERATOR = "op-3f9c"
READY = re.compile(r"ready (http://\S+) admin (http://\S+)\n")


class Gateway:
    """One process on free ports, and the file, state and spool that outlive it."""

    def __init__(self, directory: Path, session: aiohttp.ClientSession) -> None:
        self.file = directory / "gateway.yaml"
        self.state = directory / "state"
        self.spool = directory / "spool"
        self.log = directory / "gateway.log"
        self.url = ""
        self.admin = ""
        self._directory = directory
        self._session = session
        self._process: asyncio.subprocess.Process | None = None

    def write_file(self, *routes: dict[str, Any]) -> None:
        content = {
            "listen": "127.0.0.1:0",
            "admin": {"listen": "127.0.0.1:0", "tokens": {"operator": {"env": "OPERATOR"}}},
            "state": str(self.state),
            "spool": {"dir": str(self.spool), "limit": "64MiB"},
            "routes": routes,
        }
        self.file.write_bytes(msgspec.json.encode(content))

    async def start(self) -> None:
        """Start and wait for the line on stdout; fails with the log if it ends instead."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-W", "ignore::SyntaxWarning", "-m", "gateway", "--config", str(self.file)),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, "OPERATOR": OPERATOR},
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_S):
            line = (await self._process.stdout.readline()).decode()
        ready = READY.fullmatch(line)
        assert ready, f"{line!r}; its log: {self.log.read_text()}"
        self.url, self.admin = ready[1], ready[2]

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; the exit code."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        return await self.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self) -> int:
        assert self._process is not None
        async with asyncio.timeout(DEADLINE_S):
            return await self._process.wait()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def status(self) -> RouteStatus:
        _, body = await self.ask("GET", "/v1/routes/rag")
        return msgspec.json.decode(body, type=RouteStatus)

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        data = b"" if body is None else msgspec.json.encode(body)
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        async with self._session.request(
            method, f"{self.admin}{path}", data=data, headers=headers
        ) as answer:
            return answer.status, await answer.read()

    async def done(self, method: str, path: str, body: object = None) -> None:
        """`ask` for what must succeed."""
        status, answer = await self.ask(method, path, body)
        assert status == 200, answer

    async def versions(self, count: int = 60) -> set[str]:
        """Which versions answered `count` requests of as many users."""
        answers = await asyncio.gather(*(self._version(f"user-{i}") for i in range(count)))
        return set(answers)

    async def _version(self, user: str) -> str:
        async with self._session.get(f"{self.url}/query", headers={"x-user-id": user}) as answer:
            assert answer.status == 200
            version = await answer.text()
            assert answer.headers["x-served-by"].endswith(f";{version}")
            return version

    async def until(self, holds: Callable[[RouteStatus], bool]) -> RouteStatus:
        """Poll the admin API until the route's status is as expected."""
        async with asyncio.timeout(DEADLINE_S):
            while not holds(status := await self.status()):
                await asyncio.sleep(0.02)
        return status


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Each request on a connection of its own, so that a kill leaves no stale ones behind."""
    connector = aiohttp.TCPConnector(force_close=True, limit=20)
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as made:
        yield made


@pytest.fixture
async def gateway(tmp_path: Path, session: aiohttp.ClientSession) -> AsyncIterator[Gateway]:
    made = Gateway(tmp_path, session)
    yield made
    if made.runs:
        await made.end(signal.SIGKILL)


class Servers:
    """Versions A and B, each answering its name."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.slots: dict[str, Slot] = {}

    async def serve(self, version: str) -> web.AppRunner:
        async def answer(_: web.Request) -> web.Response:
            self.asked.set()
            await self.may_answer.wait()
            return web.Response(text=version)

        app = web.Application()
        app.router.add_get("/query", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.slots[version] = Slot(version=version, endpoints=(f"http://{host}:{port}",))
        return runner


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    made = Servers()
    runners = [await made.serve(version) for version in "AB"]
    yield made
    made.may_answer.set()
    for runner in runners:
        await runner.cleanup()


def route(servers: Servers, **more: Any) -> dict[str, Any]:
    stable = msgspec.to_builtins(servers.slots["A"])
    return {
        "name": "rag",
        "match": {"prefix": "/"},
        "stable": stable,
        "sticky": {"header": "x-user-id"},
        **more,
    }


def plan(servers: Servers, generation: int, *, lease_s: float | None = None) -> RoutePlan:
    return RoutePlan(
        route="rag",
        generation=generation,
        salt="release-1",
        stable=servers.slots["A"],
        canary=servers.slots["B"],
        canary_share_bp=5000,
        lease_s=lease_s,
    )


async def test_the_stored_plan_wins_after_a_kill(gateway: Gateway, servers: Servers) -> None:
    canary = {**msgspec.to_builtins(servers.slots["B"]), "weight": 10}
    gateway.write_file(route(servers, canary=canary))
    await gateway.start()
    assert (await gateway.status()).share_bp == 1000
    await gateway.done("PUT", "/v1/routes/rag/weights", {"stable": 60, "canary": 40})
    before = await gateway.status()
    assert await gateway.versions() == {"A", "B"}
    await gateway.end(signal.SIGKILL)
    await gateway.start()
    after = await gateway.status()
    assert after.plan == before.plan
    assert (after.plan.generation, after.share_bp) == (2, 4000)


async def test_an_ended_lease_sends_everything_to_stable_and_says_why(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers))
    await gateway.start()
    await gateway.done("PUT", "/v1/routes/rag/plan", plan(servers, 7, lease_s=30))
    assert await gateway.versions() == {"A", "B"}
    await gateway.done("PUT", "/v1/routes/rag/lease", {"generation": 7, "lease_s": 0.5})
    lapsed = await gateway.until(lambda status: status.share_bp == 0)
    assert "everything to stable A: the lease of generation 7 ended" in lapsed.explanation
    assert await gateway.versions() == {"A"}
    await gateway.done("PUT", "/v1/routes/rag/lease", {"generation": 7, "lease_s": 30})
    assert await gateway.versions() == {"A", "B"}
    await gateway.end(signal.SIGKILL)
    await gateway.start()
    restored = await gateway.status()
    assert (restored.plan.generation, restored.share_bp) == (7, 0)
    assert "restored from disk" in restored.explanation
    assert await gateway.versions() == {"A"}


async def test_after_a_promotion_nothing_brings_the_old_version_back(
    gateway: Gateway, servers: Servers
) -> None:
    """Not the end of the lease, not a reload, not a kill: the file still names A as stable."""
    gateway.write_file(route(servers))
    await gateway.start()
    await gateway.done("PUT", "/v1/routes/rag/plan", plan(servers, 7, lease_s=30))
    promotion = promoted(
        plan(servers, 7),
        generation=8,
        holdback_share_bp=500,
        lease_s=0.5,
        set_by="agent",
        reason="promoted",
    )
    await gateway.done("PUT", "/v1/routes/rag/plan", promotion)
    await gateway.until(lambda status: status.share_bp == 0)
    assert await gateway.versions() == {"B"}
    await gateway.done("POST", "/v1/reload")
    assert await gateway.versions() == {"B"}
    for number in (signal.SIGKILL, signal.SIGTERM):
        await gateway.end(number)
        await gateway.start()
        assert (await gateway.status()).plan.stable.version == "B"
        assert await gateway.versions() == {"B"}


async def test_a_rollback_by_hand_survives_repetition_and_a_kill(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers))
    await gateway.start()
    promotion = promoted(
        plan(servers, 7),
        generation=8,
        holdback_share_bp=0,
        lease_s=None,
        set_by="agent",
        reason="",
    )
    await gateway.done("PUT", "/v1/routes/rag/plan", promotion)
    assert await gateway.versions() == {"B"}
    for _ in range(2):
        await gateway.done("POST", "/v1/routes/rag/rollback")
        assert await gateway.versions() == {"A"}
        await gateway.end(signal.SIGKILL)
        await gateway.start()
    status = await gateway.status()
    assert (status.plan.generation, status.plan.stable.version) == (9, "A")
    assert status.plan.hold


async def test_a_bad_file_is_refused_whole_on_reload(gateway: Gateway, servers: Servers) -> None:
    gateway.write_file(route(servers))
    await gateway.start()
    before = await gateway.status()
    for bad in (route(servers, stikcy={}), route(servers, sticky={"header": "x-other"})):
        gateway.write_file(bad)
        status, body = await gateway.ask("POST", "/v1/reload")
        assert status == 422, body
    gateway.signal(signal.SIGHUP)
    async with asyncio.timeout(DEADLINE_S):
        while "the reload was refused" not in gateway.log.read_text():
            await asyncio.sleep(0.02)
    assert await gateway.status() == before
    assert await gateway.versions() == {"A"}
    gateway.write_file(route(servers))
    await gateway.done("POST", "/v1/reload")


async def test_sigterm_refuses_readiness_first_and_then_lets_exchanges_finish(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers))
    await gateway.start()
    status, _ = await gateway.ask("GET", "/readyz")
    assert status == 200
    servers.may_answer.clear()
    waiting = asyncio.create_task(gateway.versions(1))
    async with asyncio.timeout(DEADLINE_S):
        await servers.asked.wait()
    gateway.signal(signal.SIGTERM)
    async with asyncio.timeout(DEADLINE_S):
        while (await gateway.ask("GET", "/readyz"))[0] != 503:
            await asyncio.sleep(0.02)
    assert not waiting.done()
    servers.may_answer.set()
    assert await waiting == {"A"}
    assert await gateway.wait() == 0


async def test_everything_answered_is_in_the_tallies_and_the_metrics(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers))
    await gateway.start()
    await gateway.versions(50)
    _, text = await gateway.ask("GET", "/metrics")
    counts = {
        (sample.labels["arm"], sample.labels["version"], sample.labels["outcome"]): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == "http_server_request_duration_seconds_count"
    }
    assert counts == {("stable", "A", "ok"): 50}
    assert await gateway.end() == 0
    (worker,) = workers_of(gateway.spool)
    reader = WorkerReader(gateway.spool, worker)
    frames = [record.frame for record in reader.read(10_000, final=True)]
    reader.close()
    tallies = [
        msgspec.json.decode(tally_of(frame.body), type=Tally)
        for frame in frames
        if frame.kind == RecordType.TALLY
    ]
    exchanges = [frame for frame in frames if frame.kind == RecordType.EXCHANGE]
    assert len(exchanges) == 50
    assert sum(entry.answered for tally in tallies for entry in tally.entries) == 50
    seconds = [tally.second for tally in tallies]
    assert seconds == sorted(set(seconds))
    assert [tally.final for tally in tallies] == [False] * (len(tallies) - 1) + [True]


async def test_what_cannot_start_says_why_and_ends_with_2(
    gateway: Gateway, servers: Servers
) -> None:
    gateway.write_file(route(servers, stikcy={}))
    assert await failed_start(gateway) == 2
    assert "did you mean 'sticky'?" in gateway.log.read_text()
    gateway.write_file(route(servers))
    gateway.state.mkdir()
    (gateway.state / "plan-rag.json").write_text("{")
    assert await failed_start(gateway) == 2
    said = gateway.log.read_text()
    assert "plan-rag.json: not a stored plan" in said
    assert "Traceback" not in said


async def failed_start(gateway: Gateway) -> int:
    with pytest.raises(AssertionError):
        await gateway.start()
    return await gateway.wait()


async def test_no_secret_reaches_the_log(gateway: Gateway, servers: Servers) -> None:
    slot = msgspec.structs.replace(servers.slots["A"], headers={"authorization": "s3cret"})
    gateway.write_file(route(servers, stable=msgspec.to_builtins(slot)))
    await gateway.start()
    await gateway.done("PUT", "/v1/routes/rag/plan", plan(servers, 7))
    await gateway.end()
    said = gateway.log.read_text()
    assert "generation 7" in said
    assert "s3cret" not in said
    assert OPERATOR not in said
