"""The admin API: HTTP in front of `Control`. Every refusal is a `Problem` saying what came.

People write weights and rollbacks, so unknown fields there are errors; plans and renewals come
from our own processes, one version older or newer, so unknown fields are ignored and counted. A
plan that does not come from the agent is held.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web
from msgspec.structs import replace

from gateway.control import Control, Unhealthy
from gateway.crew import HandedOver
from gateway.metrics import Metrics
from gateway.openapi import openapi_document
from gateway.plan_store import NotStored
from gateway.plans import EmptySlot, NoLease, StaleGeneration, UnknownRoute
from gateway.worker_link import NotTaken
from mlops.contracts.api import (
    AGENT_ACTOR,
    LeaseRenewal,
    RollbackRequest,
    RouteStatus,
    Weights,
)
from mlops.contracts.plan import NothingToRestore, RoutePlan, Slot, without_header_values
from mlops.service.http import (
    GRANT,
    actor_of,
    auditing,
    authorizing,
    check_every_route,
    decode,
    json_answer,
    read_body,
    refusing,
)
from mlops.service.tokens import Role, Tokens

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024
"""A plan with a thousand endpoints is a tenth of this."""
PUBLIC_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/openapi.json"})


class BadConfig(ValueError):
    """A reload was refused whole; the old state stays."""


class Readiness:
    """Why the gateway is not ready; empty when it is."""

    def __init__(self, control: Control, serves: Callable[[], bool]) -> None:
        """`serves` says whether there is any worker."""
        self._control = control
        self._serves = serves
        self.draining = False

    def reasons(self) -> list[str]:
        """One sentence for each; what `/readyz` answers with."""
        if self.draining:
            return ["draining: the process was asked to end"]
        if not self._serves():
            return ["no worker serves: the log says why they end"]
        now_s = self._control.now_s()
        book = self._control.book
        return [
            f"route {route!r} is managed and waits for its first plan"
            for route in book.routes
            if book.is_waiting(route, now_s)
        ]


class Admin:
    """Handlers of the admin API."""

    def __init__(
        self,
        control: Control,
        readiness: Readiness,
        tokens: Tokens,
        metrics: Metrics,
        reload: Callable[[], Awaitable[str]],
    ) -> None:
        """`reload` reads the gateway's file again and says what changed, or raises BadConfig."""
        self._control = control
        self._readiness = readiness
        self._tokens = tokens
        self._metrics = metrics
        self._reload = reload
        self._openapi = msgspec.json.encode(openapi_document())

    def application(self) -> web.Application:
        """The API as an application, to be served by whoever has the port."""
        app = web.Application(
            middlewares=[
                auditing,
                refusing(_PROBLEM_OF, max_body_bytes=MAX_BODY_BYTES),
                authorizing(self._tokens, public=PUBLIC_PATHS, realm="gateway"),
            ],
            client_max_size=MAX_BODY_BYTES,
        )
        route = "/v1/routes/{route}"
        app.add_routes(
            [
                web.get("/livez", self._get_livez),
                web.get("/readyz", self._get_readyz),
                web.get("/healthz", self._get_readyz),
                web.get("/metrics", self._get_metrics),
                web.get("/openapi.json", self._get_openapi),
                web.get("/v1/routes", self._get_routes),
                web.get(route, self._get_route),
                web.get(f"{route}/weights", self._get_weights),
                web.put(f"{route}/weights", self._put_weights),
                web.put(f"{route}/plan", self._put_plan),
                web.put(f"{route}/lease", self._put_lease),
                web.post(f"{route}/rollback", self._post_rollback),
                web.post("/v1/reload", self._post_reload),
            ]
        )
        return app

    # ---------------------------------------------------------------------------------------------
    # Reading

    async def _get_livez(self, _: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _get_readyz(self, _: web.Request) -> web.Response:
        reasons = self._readiness.reasons()
        return web.Response(
            status=503 if reasons else 200, text="".join(f"{r}\n" for r in reasons or ["ready"])
        )

    async def _get_metrics(self, request: web.Request) -> web.Response:
        counts = await self._control.count()
        body, content_type = self._metrics.render(request.headers.get("Accept", ""), counts)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _get_openapi(self, _: web.Request) -> web.Response:
        return web.Response(body=self._openapi, content_type="application/json")

    async def _get_routes(self, request: web.Request) -> web.Response:
        grant = request[GRANT]
        routes = [
            _visible(status, grant.role)
            for status in await self._control.statuses()
            if grant.may_touch(status.plan.route)
        ]
        return json_answer({"routes": routes})

    async def _get_route(self, request: web.Request) -> web.Response:
        return _status(request, await self._control.status(_route(request)))

    async def _get_weights(self, request: web.Request) -> web.Response:
        return json_answer(self._control.weights(_route(request)))

    # ---------------------------------------------------------------------------------------------
    # Changing

    async def _put_weights(self, request: web.Request) -> web.Response:
        weights = decode(await read_body(request), Weights)
        status = await self._control.set_weights(_route(request), weights, set_by=actor_of(request))
        return _status(request, status)

    async def _put_plan(self, request: web.Request) -> web.Response:
        body = await read_body(request)
        plan = decode(body, RoutePlan)
        if plan.route != _route(request):
            raise ValueError(
                f"route: expected {_route(request)!r} as in the path, got {plan.route!r}"
            )
        self._count_unknown("plan", body, RoutePlan)
        if request.headers.get("x-actor") != AGENT_ACTOR:
            # A person's, whatever it says of itself: the agent is not to publish over it.
            plan = replace(plan, hold=True, set_by=actor_of(request))
        return _status(request, await self._control.publish(plan))

    async def _put_lease(self, request: web.Request) -> web.Response:
        body = await read_body(request)
        renewal = decode(body, LeaseRenewal)
        self._count_unknown("lease", body, LeaseRenewal)
        return _status(request, await self._control.renew_lease(_route(request), renewal))

    async def _post_rollback(self, request: web.Request) -> web.Response:
        body = await read_body(request)
        wanted = decode(body, RollbackRequest) if body else RollbackRequest()
        status = await self._control.roll_back(_route(request), wanted, set_by=actor_of(request))
        return _status(request, status)

    async def _post_reload(self, request: web.Request) -> web.Response:
        check_every_route(request[GRANT])
        return json_answer({"reloaded": True, "changes": await self._reload()})

    def _count_unknown(self, what: str, body: bytes, kind: type[msgspec.Struct]) -> None:
        count = unknown_fields(msgspec.json.decode(body), kind)
        if count:
            self._metrics.count_unknown_fields(what, count)
            log.warning("%d unknown fields in a %s were ignored", count, what)


def unknown_fields(raw: Any, kind: type[msgspec.Struct]) -> int:
    """How many keys of `raw`, and of the slots in it, this version does not know."""
    if not isinstance(raw, dict):
        return 0
    count = len(raw.keys() - set(kind.__struct_fields__))
    if kind is RoutePlan:
        count += sum(unknown_fields(raw.get(n), Slot) for n in ("stable", "canary", "previous"))
    return count


_PROBLEM_OF: dict[type[Exception], tuple[int, str]] = {
    UnknownRoute: (404, "not_found"),
    StaleGeneration: (409, "stale_generation"),
    NoLease: (409, "conflict"),
    EmptySlot: (409, "conflict"),
    NothingToRestore: (409, "nothing_to_restore"),
    Unhealthy: (409, "unhealthy"),
    NotTaken: (503, "not_taken"),
    HandedOver: (503, "handed_over"),
    BadConfig: (422, "bad_config"),
    NotStored: (507, "not_stored"),
}


def _route(request: web.Request) -> str:
    return request.match_info["route"]


def _visible(status: RouteStatus, role: Role) -> RouteStatus:
    """Only who may publish a plan may see the values of its slots' headers."""
    if role >= Role.OPERATOR:
        return status
    return replace(status, plan=without_header_values(status.plan))


def _status(request: web.Request, status: RouteStatus) -> web.Response:
    return json_answer(_visible(status, request[GRANT].role))
