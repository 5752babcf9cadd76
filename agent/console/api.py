"""What the console asks for beyond the agent's API: live routes, traffic, evidence over time, rows.

Reads, and two things that a person may do to the gateways from here: weights and rollback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, Protocol, TypeVar

import msgspec
from aiohttp import web

from agent.console.explained import Line, explained
from agent.console.history import EvidenceHistory
from agent.console.whole import RecentTraffic, WholeTraffic
from agent.moments import iso
from agent.policy import Policy
from agent.policy_file import parse_policy, to_document
from agent.publisher import Gateways, View
from agent.release import Cycle, Phase, Sight
from agent.releases import NotFound, NotNow, Releases
from agent.rules import Rules
from agent.shipped_policies import shipped
from agent.watch import part_of_alpha
from mlops.contracts.api import RollbackRequest, RouteStatus, Weights
from mlops.contracts.evidence import Evidence, Pair
from mlops.deployment.errors import GatewayError, GatewayRefused
from mlops.deployment.gateway_client import GatewayClient
from mlops.deployment.strategies import strategies
from mlops.feature_store.errors import Refused, Unavailable
from mlops.feature_store.queries import MAX_MINUTES, MAX_QUERIES, LoggedQuery
from mlops.service.http import GRANT, actor_of, check_route, decode, json_answer, read_body

T = TypeVar("T")

SAMPLE_EVERY_S: Final = 1.0
"""How often a running release's evidence is noted."""
READ_TIMEOUT_S: Final = 8.0
DEFAULT_MINUTES: Final = 15
MAX_TRAFFIC_MINUTES: Final = 6 * 60
DEFAULT_PAIR_MINUTES: Final = 2
MAX_PAIR_MINUTES: Final = 60
MAX_PAIRS: Final = 5_000
"""Of one read, the earliest; half a minute at 200 mirrored requests a second."""
PAIRS_SHOWN: Final = 40


class ConsoleLog(Protocol):
    """The feature store, as far as the console reads it.

    Each raises `Unavailable` (nobody answers) or `Refused`. Times are Unix seconds.
    """

    async def read_evidence(
        self, route: str, *, since: int, until: int | None = None, release_id: str | None = None
    ) -> Evidence:
        """Counts second by second, from `since` to the watermark."""

    async def read_traffic(self, route: str, *, since: int, until: int, every_s: int) -> Evidence:
        """The same counts merged into stretches of `every_s` seconds."""

    async def read_queries(
        self, route: str, *, order: str, arm: str, minutes: int, limit: int
    ) -> Sequence[LoggedQuery]:
        """Single rows of the last minutes; ValueError: no such order or arm (empty: every arm)."""

    async def read_pairs(self, route: str, *, since: int, until: int, limit: int) -> Sequence[Pair]:
        """Mirrored requests with both answers, the earliest first."""

    async def read_texts(
        self, route: str, ids: Sequence[str], *, since: int, until: int
    ) -> Mapping[str, str | None]:
        """What was asked, by request id; None where redaction dropped it."""


class Looking(Protocol):
    """The loop, as far as it is of interest here."""

    @property
    def leads(self) -> bool:
        """Whether this agent is the one of several that acts."""

    @property
    def view(self) -> View | None:
        """What every gateway has, as seen last; None before the first look."""

    @property
    def cycles(self) -> Mapping[str, Cycle]:
        """The last cycle of every running release, by its id."""


class LiveGateway(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway's word on a route."""

    gateway: str
    generation: int | None
    """None: it does not answer."""
    split: float
    """Percent that the canary, or the holdback, gets there now."""
    lease_remaining_s: float | None
    problem: str


class LiveRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One route as the gateways have it."""

    route: str
    stable: str
    canary: str
    previous: str
    weight: float
    """Percent asked for the canary."""
    holdback: float
    generation: int
    hold: bool
    set_by: str
    reason: str
    gateways: tuple[LiveGateway, ...]


class LiveRoutes(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/routes`."""

    leads: bool
    """Only an agent that leads looks at the gateways."""
    at: str
    routes: tuple[LiveRoute, ...]
    silent: tuple[str, ...]
    """Gateways that do not answer."""


class EffectivePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/releases/{id}/policy`: what is in force, in words, and what e-values decide."""

    lines: tuple[Line, ...]
    rolled_back_at: float
    """All checks together; the part of alpha that this phase may spend."""
    proved_at: float
    """One check, that it is not worse than its margin."""


class ShownPair(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/routes/{route}/pairs`: both answers to one query."""

    pair: Pair
    query_text: str | None
    """None: redaction dropped it, or there was none."""


class ByHand(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a command to every gateway."""

    confirmed: tuple[str, ...]
    not_confirmed: dict[str, str]
    """Why, by gateway."""


class Console:
    """Handlers; everything they use is handed in."""

    def __init__(
        self,
        loop: Looking,
        releases: Releases,
        gateways: Gateways,
        log: ConsoleLog,
        rules: Rules,
        *,
        unix_s: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._releases = releases
        self._gateways = gateways
        self._log = log
        self._rules = rules
        self._unix_s = unix_s
        self._history = EvidenceHistory()
        self._whole = WholeTraffic(log)
        self._recent = RecentTraffic(log)

    def routes(self) -> list[web.RouteDef]:
        """The handlers, for the agent's application; a `{route}` is checked against the token."""
        return [
            web.get("/v1/routes", self._get_routes),
            web.get("/v1/routes/{route}/traffic", self._get_traffic),
            web.get("/v1/routes/{route}/queries", self._get_queries),
            web.put("/v1/routes/{route}/weights", self._put_weights),
            web.post("/v1/routes/{route}/rollback", self._post_rollback),
            web.get("/v1/releases/{id}/evidence", self._get_evidence),
            web.get("/v1/releases/{id}/traffic", self._get_release_traffic),
            web.get("/v1/releases/{id}/policy", self._get_policy),
            web.get("/v1/routes/{route}/pairs", self._get_pairs),
            web.get("/v1/settings", self._get_settings),
        ]

    async def run(self) -> None:
        """Note the evidence of every running release, until cancelled."""
        while True:
            await asyncio.sleep(SAMPLE_EVERY_S)
            cycles = dict(self._loop.cycles)
            for release_id, cycle in cycles.items():
                if cycle.judgement is not None:
                    plans = [plan for _, plan in cycle.picture.answering]
                    weight = max((plan.canary_share_bp for plan in plans), default=0) / 100
                    self._history.note(release_id, weight, cycle.judgement, self._unix_s())
            if self._loop.leads:
                self._history.forget(cycles)

    # ---- reading -------------------------------------------------------------------------------

    async def _get_routes(self, request: web.Request) -> web.Response:
        view, grant = self._loop.view, request[GRANT]
        found = [
            live_route(route, sights)
            for route, sights in sorted((view.routes if view else {}).items())
            if grant.may_touch(route)
        ]
        silent = [sight.gateway for sight in view.silent] if view else []
        return json_answer(
            LiveRoutes(
                leads=self._loop.leads,
                at=iso(self._unix_s()),
                routes=tuple(found),
                silent=tuple(silent),
            )
        )

    async def _get_traffic(self, request: web.Request) -> web.Response:
        minutes = _number(request, "minutes", DEFAULT_MINUTES, MAX_TRAFFIC_MINUTES)
        read = self._recent.of(request.match_info["route"], minutes, self._unix_s())
        return json_answer(await _in_time(read))

    async def _get_queries(self, request: web.Request) -> web.Response:
        read = self._log.read_queries(
            request.match_info["route"],
            order=request.query.get("order", "newest"),
            arm=request.query.get("arm", ""),
            minutes=_number(request, "minutes", DEFAULT_MINUTES, MAX_MINUTES),
            limit=_number(request, "limit", 50, MAX_QUERIES),
        )
        return json_answer(await _in_time(read))

    async def _get_evidence(self, request: web.Request) -> web.Response:
        release = await self._releases.show(request.match_info["id"])
        check_route(request[GRANT], release.route)
        return json_answer(self._history.of(release.id))

    async def _get_release_traffic(self, request: web.Request) -> web.Response:
        release = await self._releases.show(request.match_info["id"])
        check_route(request[GRANT], release.route)
        return json_answer(await _in_time(self._whole.of(release, self._unix_s())))

    async def _get_policy(self, request: web.Request) -> web.Response:
        release = await self._releases.show(request.match_info["id"])
        check_route(request[GRANT], release.route)
        policy = parse_policy(release.policy, source=f"policy of release {release.id}")
        part = "bake" if release.ended_at is None and release.phase == Phase.BAKING else "steps"
        return json_answer(
            EffectivePolicy(
                lines=tuple(explained(policy)),
                rolled_back_at=1 / part_of_alpha(policy, part),
                proved_at=1 / policy.beta,
            )
        )

    async def _get_pairs(self, request: web.Request) -> web.Response:
        minutes = _number(request, "minutes", DEFAULT_PAIR_MINUTES, MAX_PAIR_MINUTES)
        until = int(self._unix_s())
        since = until - 60 * minutes
        route = request.match_info["route"]
        read = self._log.read_pairs(route, since=since, until=until, limit=MAX_PAIRS)
        found = list(await _in_time(read))[-PAIRS_SHOWN:][::-1]
        texts: Mapping[str, str | None] = {}
        if found:
            ids = [pair.request_id for pair in found]
            texts = await _in_time(self._log.read_texts(route, ids, since=since, until=until))
        return json_answer(
            [ShownPair(pair=one, query_text=texts.get(one.request_id)) for one in found]
        )

    async def _get_settings(self, _: web.Request) -> web.Response:
        rules = self._rules
        return json_answer(
            {
                "policy": to_document(Policy()),
                "lines": explained(Policy()),
                "strategies": {name: to_document(shipped(name)) for name in strategies()},
                "strategy_lines": {name: explained(shipped(name)) for name in strategies()},
                "gates": sorted(rules.gates),
                "notices": [target.name for target in rules.notices],
                "max_weight": {
                    route: share_bp / 100 for route, share_bp in rules.max_share_bp.items()
                },
            }
        )

    # ---- acting, on every gateway --------------------------------------------------------------

    async def _put_weights(self, request: web.Request) -> web.Response:
        wanted = decode(await read_body(request), Weights)
        route = self._known(request)

        async def put(client: GatewayClient) -> RouteStatus:
            return await client.put_weights(
                route, stable=wanted.stable, canary=wanted.canary, reason=wanted.reason
            )

        return await self._by_hand(request, route, put)

    async def _post_rollback(self, request: web.Request) -> web.Response:
        body = await read_body(request)
        wanted = decode(body, RollbackRequest) if body else RollbackRequest()
        route = self._known(request)

        async def post(client: GatewayClient) -> RouteStatus:
            return await client.rollback(
                route, to=wanted.to, reason=wanted.reason, force=wanted.force
            )

        return await self._by_hand(request, route, post)

    def _known(self, request: web.Request) -> str:
        route, view = request.match_info["route"], self._loop.view
        if view is None or route not in view.routes:
            raise NotFound(f"no gateway has a route {route!r}")
        return route

    async def _by_hand(
        self,
        request: web.Request,
        route: str,
        call: Callable[[GatewayClient], Awaitable[RouteStatus]],
    ) -> web.Response:
        view = self._loop.view
        assert view is not None, "the route was found in it"
        urls = [sight.gateway for sight in view.of(route)]
        problems = await self._gateways.by_hand(urls, actor_of(request), call)
        confirmed = tuple(url for url in urls if url not in problems)
        said = {url: str(problem) for url, problem in problems.items()}
        answer = ByHand(confirmed=confirmed, not_confirmed=said)
        return json_answer(answer, status=_status_of(confirmed, problems.values()))


def _status_of(confirmed: Sequence[str], problems: Collection[GatewayError]) -> int:
    """200: all did; 409: all refused, and will again; else 502, and trying again may help."""
    if not problems:
        return 200
    is_refused = not confirmed and all(isinstance(one, GatewayRefused) for one in problems)
    return 409 if is_refused else 502


def live_route(route: str, sights: Sequence[Sight]) -> LiveRoute:
    """Of the newest plan among the gateways; what each says stands beside it."""
    plans = [sight.plan for sight in sights if sight.plan is not None]
    newest = max(plans, key=lambda plan: plan.generation)
    return LiveRoute(
        route=route,
        stable=newest.stable.version,
        canary=newest.canary.version if newest.canary else "",
        previous=newest.previous.version if newest.previous else "",
        weight=newest.canary_share_bp / 100,
        holdback=newest.holdback_share_bp / 100,
        generation=newest.generation,
        hold=newest.hold,
        set_by=newest.set_by,
        reason=newest.reason,
        gateways=tuple(map(_gateway, sights)),
    )


def _gateway(sight: Sight) -> LiveGateway:
    plan = sight.plan
    lapsed = sight.lease_remaining_s == 0
    share_bp = 0 if plan is None or lapsed else plan.canary_share_bp or plan.holdback_share_bp
    return LiveGateway(
        gateway=sight.gateway,
        generation=plan.generation if plan else None,
        split=share_bp / 100,
        lease_remaining_s=sight.lease_remaining_s,
        problem=sight.problem,
    )


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= most:
        raise ValueError(f"{name}: expected a number from 1 to {most}, got {text[:20]!r}")
    return int(text)


async def _in_time(read: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await read
    except TimeoutError:
        raise NotNow(f"ClickHouse did not answer within {READ_TIMEOUT_S:g} s") from None
    except (Unavailable, Refused) as error:
        raise NotNow(str(error)) from error
