"""How fast 500 gateways have a decision: light admin servers on loopback, in this process.

Their CPU is part of the figure. The agent's loop, database and HTTP client are the real ones.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import msgspec
from aiohttp import web

from agent.discovery import Discovery
from agent.gatekeeper import Gatekeeper
from agent.journal import Journal
from agent.loop import Loop, Runtime
from agent.memory import Kept, Memory
from agent.metrics import Metrics
from agent.observer import Observer
from agent.policy import Policy
from agent.policy_file import to_document
from agent.providers import Providers
from agent.publisher import Gateways
from agent.release import Asked, Change, Release, Verb
from agent.rules import Rules
from agent.settings import GatewaySettings
from bench.report import Measured
from gateway.plans import PlanBook, StoredPlan
from mlops.contracts.api import AGENT_ACTOR, RouteStatus
from mlops.contracts.evidence import Evidence, Pair
from mlops.contracts.plan import RoutePlan, Slot
from mlops.feature_store.settings import ClickHouseSettings

GATEWAYS = 500
ROUNDS = 7
GOAL_S = 2.0
STABLE = Slot(version="a", endpoints=("http://127.0.0.1:9",))


class Fleet:
    """One server on 500 addresses; each address has a plan book of its own."""

    def __init__(self) -> None:
        self.hosts = [f"127.1.{n // 250}.{n % 250 + 1}" for n in range(GATEWAYS)]
        self._books = {host: self._book() for host in self.hosts}
        self._runner: web.AppRunner | None = None
        self._status = msgspec.json.Encoder()

    @staticmethod
    def _book() -> PlanBook:
        book = PlanBook()
        seed = RoutePlan(route="rag", generation=1, salt="rag", stable=STABLE, set_by="file")
        book.restore(StoredPlan(plan=seed))
        return book

    async def start(self) -> list[str]:
        app = web.Application()
        app.router.add_get("/v1/routes", self._get)
        app.router.add_put("/v1/routes/rag/plan", self._put)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        first = web.TCPSite(self._runner, self.hosts[0], 0)
        await first.start()
        port = self._runner.addresses[0][1]
        for host in self.hosts[1:]:
            await web.TCPSite(self._runner, host, port).start()
        return [f"http://{host}:{port}" for host in self.hosts]

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def generations(self) -> set[int]:
        return {book.live("rag").plan.generation for book in self._books.values()}

    def _of(self, request: web.Request) -> PlanBook:
        return self._books[str(request.url.host)]

    def _answer(self, book: PlanBook) -> bytes:
        now_s = time.monotonic()
        live = book.live("rag")
        status = RouteStatus(
            plan=live.plan,
            share_bp=live.share_in_force_bp(now_s),
            lease=book.lease_status("rag", now_s),
        )
        return self._status.encode(status)

    async def _get(self, request: web.Request) -> web.Response:
        return web.Response(body=b'{"routes":[' + self._answer(self._of(request)) + b"]}")

    async def _put(self, request: web.Request) -> web.Response:
        book = self._of(request)
        plan = msgspec.json.decode(await request.read(), type=RoutePlan)
        book.accept(plan, time.monotonic())
        return web.Response(body=self._answer(book))


class NoLog:
    """The decision is a person's; nothing is read for it."""

    async def read_evidence(
        self, route: str, *, since: int, until: int | None = None, release_id: str | None = None
    ) -> Evidence:
        return Evidence(route=route, since=since, closed_through=since - 1)

    async def read_pairs(self, route: str, *, since: int, until: int, limit: int) -> list[Pair]:
        return []


async def measure() -> list[Measured]:
    """From the moment a decision is in the database until the last gateway has it."""
    fleet = Fleet()
    urls = await fleet.start()
    with tempfile.TemporaryDirectory(prefix="bench-agent-") as directory:
        memory = Memory.open(f"sqlite:///{Path(directory) / 'agent.sqlite'}")
        settings = [GatewaySettings(url=url) for url in urls]
        discovery = Discovery(settings, actor=AGENT_ACTOR, now_s=time.monotonic)
        gateways = Gateways(discovery, time.monotonic)
        loop = Loop(
            memory,
            gateways,
            Observer(NoLog(), int),
            Journal(memory, 0),
            Gatekeeper(
                Rules(guards_embedding_space=False), Providers(ClickHouseSettings()), time.time
            ),
            metrics=Metrics(),
            runtime=Runtime("bench", "bench", time.monotonic, time.time),
        )
        try:
            took_s = [await _round(memory, loop, fleet, number) for number in range(ROUNDS)]
        finally:
            await gateways.close()
            await memory.close()
            await fleet.stop()
    name = f"{GATEWAYS} gateways: from a decision to the last one"
    return [
        Measured(name=f"{name}, median", value=statistics.median(took_s), unit="s"),
        Measured(
            name=f"{name}, greatest of {ROUNDS}",
            value=max(took_s),
            unit="s",
            goal=f"at most {GOAL_S:g}",
            holds=max(took_s) <= GOAL_S,
        ),
    ]


async def _round(memory: Memory, loop: Loop, fleet: Fleet, number: int) -> float:
    """Start a release, then abort it: the decision is the abort."""
    release = Release(
        id=f"rel-{number}",
        route="rag",
        candidate=Slot(version="b", endpoints=("http://127.0.0.1:9",)),
        policy=to_document(Policy()),
        reason="bench",
        started_by="bench",
        started_at_s=time.time(),
    )
    await memory.create(release, Change(kind="release.started", actor="bench", reason=""), 0.0)
    while len(fleet.generations()) > 1 or not (await _kept(memory, release.id)).release.plan:
        await loop.cycle()
    kept = await _kept(memory, release.id)
    asked = Asked(verb=Verb.ABORT, by="bench", reason="bench")
    began_s = time.monotonic()
    await memory.change(
        msgspec.structs.replace(kept.release, asked=asked), None,
        revision=kept.revision, at_s=time.time(), leader=None,
    )  # fmt: skip
    before = max(fleet.generations())
    while fleet.generations() != {before + 1}:
        await loop.cycle()
        await asyncio.sleep(0)
    return time.monotonic() - began_s


async def _kept(memory: Memory, release_id: str) -> Kept:
    kept = await memory.get(release_id)
    assert kept is not None
    return kept
