"""An agent in this process: real database, real HTTP, a fake gateway with the real plan book."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from msgspec.structs import replace

from agent.app import Agent
from agent.drift import DriftSettings
from agent.memory import Memory
from agent.rules import Rules
from agent.settings import AgentSettings, GatewaySettings
from gateway.plans import PlanBook, StaleGeneration, StoredPlan
from mlops.contracts.api import AGENT_ACTOR, LeaseRenewal, Problem, RouteStatus
from mlops.contracts.evidence import AnsweredCounts, Evidence, Pair, SecondCounts
from mlops.contracts.plan import Arm, RoutePlan, Slot
from mlops.feature_store.entries import Evaluation, ReleaseEvent
from mlops.feature_store.errors import Unavailable
from mlops.feature_store.queries import LoggedQuery, queries_sql
from mlops.feature_store.settings import ClickHouseSettings
from mlops.feature_store.splits import Split

STABLE = Slot(version="1", endpoints=("http://127.0.0.1:9",))
WAIT_S = 20.0


class FakeGateway:
    """The admin API's three calls an agent makes, in front of the gateway's own plan book."""

    def __init__(self) -> None:
        self.forget(generation=1)
        self.url = ""
        self.is_cut_off = False
        self.renewals = 0
        self.accepted: list[RoutePlan] = []
        self.asked: list[tuple[str, str, str]] = []
        """What was asked by hand: method, what, and who."""

    @property
    def plan(self) -> RoutePlan:
        return self.book.live("rag").plan

    @property
    def share_bp(self) -> int:
        return self.book.live("rag").share_in_force_bp(time.monotonic())

    def by_hand(self, plan: RoutePlan) -> None:
        self.book.accept(plan, time.monotonic())

    def forget(self, generation: int) -> None:
        """As a gateway whose disk is empty; at generation 0 a managed route waits for a plan."""
        self.book = PlanBook()
        seed = RoutePlan(
            route="rag", generation=generation, salt="rag", stable=STABLE, set_by="file"
        )
        self.book.restore(StoredPlan(plan=seed))

    def application(self) -> web.Application:
        @web.middleware
        async def partition(request: web.Request, handler: Any) -> web.StreamResponse:
            if self.is_cut_off:
                assert request.transport is not None
                request.transport.abort()
            answer: web.StreamResponse = await handler(request)
            return answer

        app = web.Application(middlewares=[partition])
        app.router.add_get("/v1/routes", self._get)
        app.router.add_put("/v1/routes/rag/plan", self._put_plan)
        app.router.add_put("/v1/routes/rag/lease", self._put_lease)
        app.router.add_put("/v1/routes/rag/weights", self._by_hand)
        app.router.add_post("/v1/routes/rag/rollback", self._by_hand)
        return app

    def _status(self) -> RouteStatus:
        now_s = time.monotonic()
        lease = self.book.lease_status("rag", now_s)
        return RouteStatus(plan=self.plan, share_bp=self.share_bp, lease=lease)

    async def _get(self, _: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode({"routes": [self._status()]}))

    async def _by_hand(self, request: web.Request) -> web.Response:
        what = request.path.rpartition("/")[2]
        self.asked.append((request.method, what, request.headers["x-actor"]))
        return web.Response(body=msgspec.json.encode(self._status()))

    async def _put_plan(self, request: web.Request) -> web.Response:
        plan = msgspec.json.decode(await request.read(), type=RoutePlan)
        if request.headers.get("x-actor") != AGENT_ACTOR:
            plan = replace(plan, hold=True)
        try:
            self.book.accept(plan, time.monotonic())
        except StaleGeneration as stale:
            return _stale(stale)
        self.accepted.append(plan)
        return web.Response(body=msgspec.json.encode(self._status()))

    async def _put_lease(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=LeaseRenewal)
        try:
            self.book.renew_lease("rag", wanted.generation, wanted.lease_s, time.monotonic())
        except StaleGeneration as stale:
            return _stale(stale)
        self.renewals += 1
        return web.Response(body=msgspec.json.encode(self._status()))


def _stale(stale: StaleGeneration) -> web.Response:
    problem = Problem(
        error=str(stale), code="stale_generation", live_generation=stale.live_generation
    )
    return web.Response(status=409, body=msgspec.json.encode(problem))


class FakeLog:
    """Evidence of a steady 200 requests a second, split as the gateway says; can be away."""

    def __init__(self, gateway: FakeGateway) -> None:
        self._gateway = gateway
        self.away = False
        self.canary_errors = 0
        self.events: list[ReleaseEvent] = []
        self.pairs: list[Pair] = []
        self.evaluations: list[Evaluation] = []
        self.queries: list[LoggedQuery] = []
        self._history: dict[int, tuple[int, int, Arm]] = {}

    def note(self) -> None:
        """What is live now is what this second's rows say."""
        plan = self._gateway.plan
        arm = Arm.HOLDBACK if plan.holdback_share_bp else Arm.CANARY
        self._history[int(time.time())] = (plan.generation, self._gateway.share_bp, arm)

    async def read_splits(self, route: str, *, since: int, until: int) -> tuple[Split, ...]:
        """None that anybody could replay."""
        return ()

    async def read_evidence(
        self, route: str, *, since: int, until: int | None = None, release_id: str | None = None
    ) -> Evidence:
        if self.away:
            raise Unavailable("away")
        self.note()
        closed = int(time.time()) - 1
        closed = closed if until is None else min(closed, until)
        seconds: list[SecondCounts] = []
        answered: list[AnsweredCounts] = []
        for second in range(since, closed + 1):
            generation, share_bp, other = self._history.get(second, (1, 0, Arm.CANARY))
            split = 200 * share_bp // 10_000
            for arm, count in ((other, split), (Arm.STABLE, 200 - split)):
                errors = min(count, self.canary_errors) if arm is Arm.CANARY else 0
                seconds.append(
                    SecondCounts(
                        second=second,
                        generation=generation,
                        arm=arm,
                        rows=count,
                        requests=count,
                        errors=errors,
                        latency_bins={100: count},
                    )
                )
                counted = {"second": second, "generation": generation, "answered": count}
                answered.append(AnsweredCounts(**counted, arm=arm, dropped=0))
        return Evidence(
            route=route,
            since=since,
            closed_through=closed,
            seconds=tuple(seconds),
            answered=tuple(answered),
        )

    async def read_traffic(self, route: str, *, since: int, until: int, every_s: int) -> Evidence:
        return await self.read_evidence(route, since=since, until=until)

    async def read_queries(
        self, route: str, *, order: str, arm: str, minutes: int, limit: int
    ) -> list[LoggedQuery]:
        if self.away:
            raise Unavailable("away")
        queries_sql(order, arm)
        return self.queries

    async def read_pairs(self, route: str, *, since: int, until: int, limit: int) -> list[Pair]:
        if self.away:
            raise Unavailable("away")
        return self.pairs[:limit]

    async def read_texts(
        self, route: str, ids: Any, *, since: int, until: int
    ) -> dict[str, str | None]:
        return dict.fromkeys(ids, "what was asked")

    async def insert_release_event(self, event: ReleaseEvent) -> None:
        if self.away:
            raise Unavailable("away")
        self.events.append(event)

    async def insert_evaluations(self, evaluations: Any, *, token: str) -> None:
        if self.away:
            raise Unavailable("away")
        self.evaluations += evaluations

    async def close(self) -> None:
        return None


class Running:
    """A running agent and a client of its API."""

    def __init__(self, agent: Agent, url: str, session: aiohttp.ClientSession) -> None:
        self.agent = agent
        self.url = url
        self.session = session
        self._ended = False

    async def stop(self) -> None:
        """End it as SIGTERM does; once."""
        if not self._ended:
            self._ended = True
            await self.session.close()
            await self.agent.stop()

    async def call(
        self, method: str, path: str, body: object = None, *, token: str = "operator"
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}", "x-actor": "ann"}
        url = f"{self.url}{path}"
        async with self.session.request(method, url, json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def release(self, release_id: str) -> Any:
        _, found = await self.call("GET", f"/v1/releases/{release_id}")
        return found


async def until(holds: Callable[[], Awaitable[Any]]) -> Any:
    """Ask until the answer is true; bounded."""
    async with asyncio.timeout(WAIT_S):
        while not (found := await holds()):
            await asyncio.sleep(0.02)
        return found


@pytest.fixture
def new_gateway() -> type[FakeGateway]:
    """The class, for tests that serve several."""
    return FakeGateway


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with served() as fake:
        yield fake


@pytest.fixture
async def second_gateway(gateways: list[FakeGateway]) -> AsyncIterator[FakeGateway]:
    """One more that the agents know; ask for it before they are started."""
    async with served() as fake:
        gateways.append(fake)
        yield fake


@pytest.fixture
def gateways(gateway: FakeGateway) -> list[FakeGateway]:
    """What agents are started with."""
    return [gateway]


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[FakeGateway]:
    fake = FakeGateway()
    runner = web.AppRunner(fake.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    fake.url = f"http://{host}:{port}"
    yield fake
    await runner.cleanup()


@pytest.fixture
async def log(gateway: FakeGateway) -> AsyncIterator[FakeLog]:
    """Notes the live split ten times a second, as rows would."""
    fake = FakeLog(gateway)

    async def follow() -> None:
        while True:
            fake.note()
            await asyncio.sleep(0.1)

    task = asyncio.create_task(follow())
    yield fake
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The address of the test's one database; a test on PostgreSQL overrides it."""
    return f"sqlite:///{tmp_path / 'agent.sqlite'}"


@pytest.fixture
def rules() -> Rules:
    """What the agent's file says of gates, notices, freezes and caps; a test overrides it."""
    return Rules()


@pytest.fixture
def token_file() -> Path | None:
    """Tokens beside those of the environment; a test overrides it."""
    return None


@pytest.fixture
async def start(
    database: str,
    gateways: list[FakeGateway],
    log: FakeLog,
    rules: Rules,
    token_file: Path | None,
) -> AsyncIterator[Callable[[], Awaitable[Running]]]:
    """Start an agent on the test's one database; each call one more."""
    running: list[Running] = []

    async def one() -> Running:
        url = database
        settings = AgentSettings(
            port=0,
            memory=url,
            gateways=tuple(GatewaySettings(url=one.url) for one in gateways),
            operator_token="operator",
            viewer_token="viewer",
            token_file=token_file,
            interval_s=0.1,
            drift=DriftSettings(every_s=0.1),
            rules=rules,
            clickhouse=ClickHouseSettings(),
        )
        memory = Memory.open(url, [target.name for target in rules.notices])
        agent = Agent(settings, memory, log)  # type: ignore[arg-type]
        address = await agent.start()
        found = Running(agent, address, aiohttp.ClientSession())
        running.append(found)
        return found

    yield one
    for each in running:
        await each.stop()


class Receiver:
    """A real HTTP server that keeps what it was sent and answers as a test says."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: dict[str, Callable[[bytes], Any]] = {}

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append((request.path, headers, body))
        answer = self.answers.get(request.path)
        given = answer(body) if answer else web.Response(status=404)
        return given if isinstance(given, web.Response) else await given

    def bodies(self, path: str) -> list[Any]:
        return [msgspec.json.decode(body) for at, _, body in self.received if at == path]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    found.url = f"http://{host}:{port}"
    yield found
    await runner.cleanup()


@pytest.fixture
def wait() -> Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]:
    return until
