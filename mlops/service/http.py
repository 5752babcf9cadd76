"""An HTTP API whose refusals are `Problem`s that say what came, and whose callers have a role."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from mlops.contracts.api import Problem
from mlops.service.failures import Failures
from mlops.service.sessions import COOKIE, Sessions
from mlops.service.tokens import Grant, KeysAway, Role, Tokens

log = logging.getLogger(__name__)
audit = logging.getLogger("audit")
"""One line for every change that was asked for: who, from where, what, and how it was answered."""

BODY_TIMEOUT_S = 10.0
"""Longest wait for a body; the callers are on the same network."""
MAX_ACTOR_CHARS = 128
"""Longest `x-actor` that is kept."""
RETRY_AFTER_S = 2
"""What a 503 asks for."""

JSON_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Of every answer: it may hold what users asked, and is for nobody but who asks for it."""

GRANT = web.RequestKey("grant", Grant)
"""Of the caller, on every request that `authorizing` let through."""


class Forbidden(Exception):
    """The caller is known, and may not do this."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ProblemOf = Mapping[type[Exception], tuple[int, str]]
"""Status and code of the exceptions that a handler may raise, and of those derived from them;
any other ValueError is a 400."""
_T = TypeVar("_T")

_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def authorizing(
    tokens: Tokens,
    *,
    public: Collection[str],
    realm: str,
    failures: Failures | None = None,
    sessions: Sessions | None = None,
) -> Middleware:
    """Let a request through only with a token that grants it; `public` paths need none.

    A path that names a `{route}` needs a token that may touch it. With `sessions`, a browser's
    cookie stands for its token; it changes something only from a page of ours.
    """
    failures = Failures() if failures is None else failures

    @web.middleware
    async def authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in public:
            return await handler(request)
        if wait_s := failures.wait_s(request.remote or "", time.monotonic()):
            return _too_many_failures(wait_s)
        changes = request.method not in ("GET", "HEAD")
        given = given_by(request, sessions, changes=changes)
        try:
            grant = await tokens.grant_for(given)
        except KeysAway as error:
            return refusal(503, "unavailable", str(error))
        if grant.role is Role.NOBODY:
            if given:
                failures.note(request.remote or "", given, time.monotonic())
            return _unauthorized(realm)
        request[GRANT] = grant
        if changes and grant.role < Role.OPERATOR:
            role = grant.role.name.lower()
            raise Forbidden(f"{request.method} needs the role operator, the token's is {role}")
        if tokens.is_open:
            check_open(request, changes=changes)
        if (route := request.match_info.get("route")) is not None:
            check_route(grant, route)
        return await handler(request)

    return authorize


def _too_many_failures(wait_s: float) -> web.Response:
    return refusal(
        429,
        "too_many_failures",
        "too many wrong tokens came from this address",
        headers={"Retry-After": str(math.ceil(wait_s))},
    )


def _unauthorized(realm: str) -> web.Response:
    return refusal(
        401,
        "unauthorized",
        "expected Authorization: Bearer with a known token",
        headers={"WWW-Authenticate": f'Bearer realm="{realm}"'},
    )


def given_by(request: web.Request, sessions: Sessions | None, *, changes: bool) -> str:
    """What stands for `Authorization`: the header, else what a browser's session remembers."""
    given = request.headers.get("Authorization", "")
    if given or sessions is None or COOKIE not in request.cookies:
        return given
    given = sessions.authorization(request.cookies[COOKIE], time.monotonic())
    if given and changes:
        check_origin(request)
    return given


@web.middleware
async def auditing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log every change that is asked for, outside of what authorizes and refuses it."""
    answer = await handler(request)
    if request.method not in ("GET", "HEAD"):
        # A lease is renewed every few seconds, by the agent.
        level = logging.DEBUG if request.path.endswith("/lease") else logging.INFO
        who = actor_of(request) if GRANT in request else "nobody"
        # As it was sent: decoded, a path may hold line ends, and so lines that nobody logged.
        audit.log(
            level, "%s %s by %s from %s: %d", request.method, request.rel_url.raw_path, who,
            request.remote, answer.status,
        )  # fmt: skip
    return answer


def check_open(request: web.Request, *, changes: bool) -> None:
    """Raises Forbidden: any web page that is open on this machine could otherwise ask here, too.

    A page posts across origins, which `Origin` tells. It reads only within its own, and makes this
    server one by pointing its name in the DNS to this machine (DNS rebinding): so a name that
    somebody else may hold is not answered to. Addresses and names without a dot are not in the DNS.
    """
    if changes and "Origin" in request.headers:
        raise Forbidden("a browser may change nothing while no tokens are configured")
    name = urlsplit(f"//{request.host}").hostname or ""
    if "." in name and not _is_address(name) and not name.endswith(".localhost"):
        raise Forbidden(f"without tokens only a local name is answered to, not {name[:80]!r}")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def check_origin(request: web.Request) -> None:
    """Raises Forbidden: a browser sends this from a page that is not ours.

    Beside the cookie's SameSite (RFC 6265bis, 8.8): browsers name the page in `Origin` whenever
    they change something.
    """
    origin = request.headers.get("Origin", "")
    if urlsplit(origin).netloc != request.host:
        raise Forbidden(f"the page of {origin or 'nobody'} may change nothing here")


def check_route(grant: Grant, route: str) -> None:
    """Raises Forbidden: the token is of other routes."""
    if not grant.may_touch(route):
        raise Forbidden(f"the token {grant.name} is not of route {route!r}")


def check_every_route(grant: Grant) -> None:
    """Raises Forbidden: what is asked for is not of one route, and the token is of some only."""
    if grant.routes is not None:
        raise Forbidden(f"the token {grant.name} is of some routes; this needs one of all")


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
            status, code = next(problem_of[one] for one in type(exc).__mro__ if one in problem_of)
            live: int | None = getattr(exc, "live_generation", None)
            return refusal(status, code, str(exc), live_generation=live)
        except Forbidden as exc:
            return refusal(403, "forbidden", str(exc))
        except ValueError as exc:
            return refusal(400, "bad_request", str(exc))
        except Exception:
            log.exception("%s %s failed", request.method, request.rel_url.raw_path)
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
    """Anything that msgspec encodes, as an answer."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(value),
        content_type="application/json",
        headers={**JSON_HEADERS, **(headers or {})},
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
    grant = request[GRANT]
    actor = request.headers.get("x-actor", "")[:MAX_ACTOR_CHARS]
    return said_once(actor if actor.isprintable() else "", grant.role.name.lower(), grant.name)


def said_once(actor: str, role: str, name: str) -> str:
    """`ann (operator)`: who a caller says it is, and the role and name of its token.

    A caller that passes on what another process found, `operator ann` or `ann (operator)`, is
    Ann: her role is told by the token that came, and only once.
    """
    bare = re.sub(rf"( \({role}( [^()]*)?\))+$", "", actor).removeprefix(f"{role} ").strip()
    as_whom = f"{role} {name}".rstrip()
    return as_whom if bare in ("", role, name) else f"{bare} ({as_whom})"
