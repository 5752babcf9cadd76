"""A client of one gateway's admin API. Foreign failures become the three kinds in `errors`."""

from __future__ import annotations

from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from mlops.contracts.api import LeaseRenewal, Problem, RollbackRequest, RouteStatus, Weights
from mlops.contracts.plan import RoutePlan
from mlops.deployment.errors import GatewayRefused, GatewayUnavailable, StaleGeneration

T = TypeVar("T")

DEFAULT_TIMEOUT_S = 3.0
"""A gateway answers its admin API in milliseconds; past this it counts as unreachable."""

MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Some hundreds of routes; an answer beyond this is not a gateway's."""

MAX_CONNECTIONS = 8
"""The agent has a few calls in flight to one gateway at a time."""


class _Routes(msgspec.Struct, frozen=True):
    routes: list[RouteStatus]


class GatewayClient:
    """Every call raises `GatewayUnavailable`, `GatewayRefused` or `StaleGeneration`."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        actor: str = "",
        server_name: str = "",
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """`actor` says who does it, and becomes the plan's `set_by`; printable text.

        A plan from any actor but the agent (`AGENT_ACTOR`) is held: the agent publishes nothing
        over it until `resume`. `server_name` is HOST[:PORT] where `url` names one address of it.
        """
        self.url = url.rstrip("/")
        self.server_name = server_name
        self._tls_name = urlsplit(f"//{server_name}").hostname
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        if actor:
            self._headers["x-actor"] = actor
        if server_name:
            self._headers["Host"] = server_name
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def routes(self) -> list[RouteStatus]:
        """Every route the gateway has."""
        return (await self._call("GET", "/v1/routes", None, _Routes)).routes

    async def route(self, name: str) -> RouteStatus:
        return await self._call("GET", self._path(name), None, RouteStatus)

    async def put_plan(self, plan: RoutePlan) -> RouteStatus:
        """Replace the route's plan.

        Raises:
            StaleGeneration: the live plan is as new or newer.
        """
        return await self._call("PUT", self._path(plan.route, "/plan"), plan, RouteStatus)

    async def renew_lease(self, route: str, generation: int, lease_s: float) -> None:
        """Start the live generation's lease anew.

        Raises:
            StaleGeneration: another generation is live.
        """
        body = LeaseRenewal(generation=generation, lease_s=lease_s)
        await self._call("PUT", self._path(route, "/lease"), body, object)

    async def put_weights(
        self, route: str, *, stable: float, canary: float, reason: str = ""
    ) -> RouteStatus:
        """Percent, by hand: the agent will keep its hands off until `resume`."""
        body = Weights(stable=stable, canary=canary, reason=reason)
        return await self._call("PUT", self._path(route, "/weights"), body, RouteStatus)

    async def rollback(
        self, route: str, *, to: str = "", reason: str = "", force: bool = False
    ) -> RouteStatus:
        """Everything to stable, now; `to="previous"` undoes a promotion."""
        body = RollbackRequest(to=to, reason=reason, force=force)
        return await self._call("POST", self._path(route, "/rollback"), body, RouteStatus)

    @staticmethod
    def _path(route: str, rest: str = "") -> str:
        return f"/v1/routes/{quote(route, safe='')}{rest}"

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
            )
        return self._session

    async def _call(self, method: str, path: str, body: object, expected: type[T]) -> T:
        what = f"{method} {self.url}{path}"
        data = None if body is None else msgspec.json.encode(body)
        headers = {} if data is None else {"Content-Type": "application/json"}
        try:
            async with self._open().request(
                method,
                f"{self.url}{path}",
                data=data,
                headers=headers,
                allow_redirects=False,
                server_hostname=self._tls_name,
            ) as answer:
                content = await _bounded(answer, what)
        except TimeoutError as error:
            raise GatewayUnavailable(
                f"{what}: no answer within {self._timeout.total:g} s"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise GatewayUnavailable(f"{what}: {error}") from error
        if answer.status >= 400:
            raise _refusal(what, answer.status, content)
        try:
            return msgspec.json.decode(content, type=expected)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise GatewayUnavailable(
                f"{what}: answered {answer.status} with something that is not expected: {error}"
            ) from error


async def _bounded(answer: aiohttp.ClientResponse, what: str) -> bytes:
    content = bytearray()
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise GatewayUnavailable(f"{what}: answered more than {MAX_ANSWER_BYTES} bytes")
    return bytes(content)


def _refusal(what: str, status: int, content: bytes) -> GatewayUnavailable | GatewayRefused:
    try:
        problem = msgspec.json.decode(content, type=Problem)
    except (msgspec.DecodeError, msgspec.ValidationError):
        excerpt = content[:200].decode(errors="replace")
        problem = Problem(error=excerpt or "no body", code="")
    message = f"{what}: {status} {problem.error}"
    if status >= 500:
        return GatewayUnavailable(message)
    if status == 409 and problem.live_generation is not None:
        return StaleGeneration(message, live_generation=problem.live_generation)
    return GatewayRefused(message, status=status, code=problem.code)
