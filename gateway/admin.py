"""The admin API: HTTP in front of `Control`. Every refusal is a `Problem` saying what came.

People write weights and rollbacks, so unknown fields there are errors; plans and renewals come
from our own processes, one version older or newer, so unknown fields are ignored and counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from msgspec.structs import replace

from gateway.control import Control, Unhealthy
from gateway.metrics import Metrics
from gateway.openapi import openapi_document
from gateway.plan_store import NotStored
from gateway.plans import EmptySlot, NoLease, StaleGeneration, UnknownRoute
from gateway.tokens import Role, Tokens
from mlops.contracts.api import LeaseRenewal, Problem, RollbackRequest, RouteStatus, Weights
from mlops.contracts.plan import NothingToRestore, RoutePlan, Slot

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024
"""A plan with a thousand endpoints is a tenth of this."""
BODY_TIMEOUT_S = 10.0
"""Longest wait for a body; the callers are on the same network."""
MAX_ACTOR_CHARS = 128
"""Longest `x-actor` that is kept."""
HIDDEN = "(hidden)"
PUBLIC_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/openapi.json"})

_ROLE = web.RequestKey("role", Role)
_T = TypeVar("_T")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BadConfig(ValueError):
    """A reload was refused whole; the old state stays."""


class Readiness:
    """Why the gateway is not ready; empty when it is."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.draining = False

    def reasons(self) -> list[str]:
        if self.draining:
            return ["draining: the process was asked to end"]
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
        app = web.Application(
            middlewares=[_problems, self._authorize], client_max_size=MAX_BODY_BYTES
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

    @web.middleware
    async def _authorize(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.path in PUBLIC_PATHS:
            return await handler(request)
        role = self._tokens.role_of(request.headers.get("Authorization", ""))
        changes = request.method not in ("GET", "HEAD")
        if role is Role.NOBODY:
            return _refusal(
                401,
                "unauthorized",
                "expected Authorization: Bearer with a known token",
                headers={"WWW-Authenticate": 'Bearer realm="gateway"'},
            )
        if changes and role < Role.OPERATOR:
            return _refusal(
                403, "forbidden", f"{request.method} needs the role operator, the token's is viewer"
            )
        if changes and self._tokens.is_open and "Origin" in request.headers:
            # Without tokens any web page open on this machine could otherwise post here.
            return _refusal(
                403, "forbidden", "a browser may change nothing while no tokens are configured"
            )
        request[_ROLE] = role
        return await handler(request)

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
        body, content_type = self._metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _get_openapi(self, _: web.Request) -> web.Response:
        return web.Response(body=self._openapi, content_type="application/json")

    async def _get_routes(self, request: web.Request) -> web.Response:
        routes = [self._control.status(route) for route in self._control.book.routes]
        return _json({"routes": [_visible(status, request[_ROLE]) for status in routes]})

    async def _get_route(self, request: web.Request) -> web.Response:
        return _status(request, self._control.status(_route(request)))

    async def _get_weights(self, request: web.Request) -> web.Response:
        return _json(self._control.weights(_route(request)))

    # ---------------------------------------------------------------------------------------------
    # Changing

    async def _put_weights(self, request: web.Request) -> web.Response:
        weights = _decode(await _body(request), Weights)
        status = await self._control.set_weights(_route(request), weights, set_by=_actor(request))
        return _status(request, status)

    async def _put_plan(self, request: web.Request) -> web.Response:
        body = await _body(request)
        plan = _decode(body, RoutePlan)
        if plan.route != _route(request):
            raise ValueError(
                f"route: expected {_route(request)!r} as in the path, got {plan.route!r}"
            )
        self._count_unknown("plan", body, RoutePlan)
        return _status(request, await self._control.publish(plan))

    async def _put_lease(self, request: web.Request) -> web.Response:
        body = await _body(request)
        renewal = _decode(body, LeaseRenewal)
        self._count_unknown("lease", body, LeaseRenewal)
        return _status(request, await self._control.renew_lease(_route(request), renewal))

    async def _post_rollback(self, request: web.Request) -> web.Response:
        body = await _body(request)
        wanted = _decode(body, RollbackRequest) if body else RollbackRequest()
        status = await self._control.roll_back(_route(request), wanted, set_by=_actor(request))
        return _status(request, status)

    async def _post_reload(self, _: web.Request) -> web.Response:
        return _json({"reloaded": True, "changes": await self._reload()})

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
    NothingToRestore: (409, "conflict"),
    Unhealthy: (409, "unhealthy"),
    BadConfig: (422, "bad_config"),
    NotStored: (507, "not_stored"),
}


@web.middleware
async def _problems(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Everything refused is a Problem; a failure of ours is logged and tells nothing."""
    try:
        return await handler(request)
    except web.HTTPException as exc:
        code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(exc.status)
        allow = {"Allow": exc.headers["Allow"]} if "Allow" in exc.headers else None
        return _refusal(exc.status, code or "bad_request", _sentence(exc, request), headers=allow)
    except tuple(_PROBLEM_OF) as exc:
        status, code = _PROBLEM_OF[type(exc)]
        live = exc.live_generation if isinstance(exc, StaleGeneration) else None
        return _refusal(status, code, str(exc), live_generation=live)
    except ValueError as exc:
        return _refusal(400, "bad_request", str(exc))
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _refusal(500, "internal", "the gateway failed to answer; its log says why")


def _sentence(exc: web.HTTPException, request: web.Request) -> str:
    match exc.status:
        case 404:
            return f"nothing is at {request.path!r}; /openapi.json lists what is"
        case 405:
            return f"{request.method} is not for {request.path!r}"
        case 413:
            return f"the body is longer than {MAX_BODY_BYTES:,} bytes"
        case _:
            return exc.reason


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError as exc:
        raise ValueError(f"the body did not arrive within {BODY_TIMEOUT_S:g} s") from exc


def _decode(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as exc:
        raise ValueError(f"the body is not as expected: {exc}") from exc


def _route(request: web.Request) -> str:
    return request.match_info["route"]


def _actor(request: web.Request) -> str:
    """Who did it, for the plan's `set_by`: the role, and the name the caller gives itself."""
    role = request[_ROLE].name.lower()
    actor = request.headers.get("x-actor", "")[:MAX_ACTOR_CHARS]
    return f"{actor} ({role})" if actor and actor.isprintable() else role


def _visible(status: RouteStatus, role: Role) -> RouteStatus:
    """Slot headers may be credentials; only who may publish a plan may see them."""
    if role >= Role.OPERATOR:
        return status
    plan = status.plan
    hidden = {
        name: replace(slot, headers=dict.fromkeys(slot.headers, HIDDEN))
        for name in ("stable", "canary", "previous")
        if (slot := getattr(plan, name)) is not None
    }
    return replace(status, plan=replace(plan, **hidden))


def _status(request: web.Request, status: RouteStatus) -> web.Response:
    return _json(_visible(status, request[_ROLE]))


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _refusal(
    status: int,
    code: str,
    error: str,
    *,
    live_generation: int | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    problem = Problem(error=error, code=code, live_generation=live_generation)
    return web.Response(
        status=status,
        body=msgspec.json.encode(problem),
        content_type="application/json",
        headers=headers,
    )
