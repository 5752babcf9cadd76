"""What an agent talks to: a gateway with the real plan book, and a log that answers by itself."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from aiohttp import web
from msgspec.structs import replace

from gateway.plans import PlanBook, StaleGeneration, StoredPlan
from mlops.contracts.api import AGENT_ACTOR, LeaseRenewal, Problem, RouteStatus
from mlops.contracts.evidence import AnsweredCounts, Evidence, Pair, SecondCounts
from mlops.contracts.plan import Arm, RoutePlan, Slot
from mlops.feature_store.entries import Evaluation, ReleaseEvent
from mlops.feature_store.errors import Unavailable
from mlops.feature_store.queries import LoggedQuery, queries_sql
from mlops.feature_store.splits import Split

STABLE = Slot(version="1", endpoints=("http://127.0.0.1:9",))


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
