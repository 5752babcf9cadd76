"""An HTTP API whose refusals are `Problem`s that say what came, and whose callers have a role."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from mlops.contracts.api import Problem
from mlops.service.tokens import Role, Tokens

log = logging.getLogger(__name__)

BODY_TIMEOUT_S = 10.0
"""Longest wait for a body; the callers are on the same network."""
MAX_ACTOR_CHARS = 128
"""Longest `x-actor` that is kept."""
RETRY_AFTER_S = 2
"""What a 503 asks for."""

ROLE = web.RequestKey("role", Role)
"""Of the caller, on every request that `authorizing` let through."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ProblemOf = Mapping[type[Exception], tuple[int, str]]
"""Status and code of the exceptions that a handler may raise; ValueError is always a 400."""
_T = TypeVar("_T")

_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def authorizing(tokens: Tokens, *, public: Collection[str], realm: str) -> Middleware:
    """Let a request through only with a token whose role may do it; `public` paths need none."""

    @web.middleware
    async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in public:
            return await handler(request)
        role = tokens.role_of(request.headers.get("Authorization", ""))
        changes = request.method not in ("GET", "HEAD")
        if role is Role.NOBODY:
            return refusal(
                401,
                "unauthorized",
                "expected Authorization: Bearer with a known token",
                headers={"WWW-Authenticate": f'Bearer realm="{realm}"'},
            )
        if changes and role < Role.OPERATOR:
            error = f"{request.method} needs the role operator, the token's is {role.name.lower()}"
            return refusal(403, "forbidden", error)
        if changes and tokens.is_open and "Origin" in request.headers:
            # Without tokens any web page open on this machine could otherwise post here.
            error = "a browser may change nothing while no tokens are configured"
            return refusal(403, "forbidden", error)
        request[ROLE] = role
        return await handler(request)

    return authorize


def refusing(problem_of: ProblemOf, *, max_body_bytes: int) -> Middleware:
    """Turn what a handler raises into a `Problem`; our own failures are logged and tell nothing."""

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as exc:
            allow = {"Allow": exc.headers["Allow"]} if "Allow" in exc.headers else {}
            error = _sentence(exc, request, max_body_bytes)
            return refusal(exc.status, _CODES.get(exc.status, "bad_request"), error, headers=allow)
        except tuple(problem_of) as exc:
            status, code = problem_of[type(exc)]
            live: int | None = getattr(exc, "live_generation", None)
            return refusal(status, code, str(exc), live_generation=live)
        except ValueError as exc:
            return refusal(400, "bad_request", str(exc))
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return refusal(500, "internal", "the server failed to answer; its log says why")

    return refuse


def _sentence(exc: web.HTTPException, request: web.Request, max_body_bytes: int) -> str:
    match exc.status:
        case 404:
            return f"nothing is at {request.path!r}; /openapi.json lists what is"
        case 405:
            return f"{request.method} is not for {request.path!r}"
        case 413:
            return f"the body is longer than {max_body_bytes:,} bytes"
        case _:
            return exc.reason


def refusal(
    status: int,
    code: str,
    error: str,
    *,
    live_generation: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A `Problem` as an answer."""
    extra = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
    problem = Problem(error=error, code=code, live_generation=live_generation)
    return json_answer(problem, status=status, headers=extra | dict(headers or {}))


def json_answer(
    value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(value),
        content_type="application/json",
        headers=headers,
    )


async def read_body(request: web.Request) -> bytes:
    """The whole body; the application's `client_max_size` bounds it.

    Raises:
        ValueError: it did not arrive in time.
    """
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError as exc:
        raise ValueError(f"the body did not arrive within {BODY_TIMEOUT_S:g} s") from exc


def decode(body: bytes, kind: type[_T]) -> _T:
    """A JSON body as a value.

    Raises:
        ValueError: it is not JSON, or not of that kind; says where.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as exc:
        raise ValueError(f"the body is not as expected: {exc}") from exc


def actor_of(request: web.Request) -> str:
    """Who did it, for plans and journals: the role, and the name the caller gives itself."""
    role = request[ROLE].name.lower()
    actor = request.headers.get("x-actor", "")[:MAX_ACTOR_CHARS]
    return f"{actor} ({role})" if actor and actor.isprintable() else role
