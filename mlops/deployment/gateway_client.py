"""A client of one gateway's admin API."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from mlops.contracts.api import LeaseRenewal, Problem, RollbackRequest, RouteStatus, Weights
from mlops.contracts.plan import RoutePlan
from mlops.deployment.errors import GatewayRefused, GatewayUnavailable, StaleGeneration
from mlops.deployment.http import JsonClient


class _Routes(msgspec.Struct, frozen=True):
    routes: list[RouteStatus]


class GatewayClient(JsonClient):
    """Every call raises `GatewayUnavailable`, `GatewayRefused` or `StaleGeneration`.

    The actor becomes the plan's `set_by`. A plan from any actor but the agent (`AGENT_ACTOR`) is
    held: the agent publishes nothing over it until `resume`.
    """

    def unavailable(self, message: str) -> GatewayUnavailable:
        """For `JsonClient.call`."""
        return GatewayUnavailable(message)

    def refused(self, message: str, status: int, problem: Problem) -> GatewayRefused:
        """The same; a 409 that names the live generation is a `StaleGeneration`."""
        if status == 409 and problem.live_generation is not None:
            return StaleGeneration(message, live_generation=problem.live_generation)
        return GatewayRefused(message, status=status, code=problem.code)

    async def routes(self) -> list[RouteStatus]:
        """Every route the gateway has."""
        return (await self.call("GET", "/v1/routes", None, _Routes)).routes

    async def route(self, name: str) -> RouteStatus:
        """One route; refused (404) where the gateway has none of that name."""
        return await self.call("GET", self._path(name), None, RouteStatus)

    async def put_plan(self, plan: RoutePlan) -> RouteStatus:
        """Replace the route's plan.

        Raises:
            StaleGeneration: the live plan is as new or newer.
        """
        return await self.call("PUT", self._path(plan.route, "/plan"), plan, RouteStatus)

    async def renew_lease(self, route: str, generation: int, lease_s: float) -> None:
        """Start the live generation's lease anew.

        Raises:
            StaleGeneration: another generation is live.
        """
        body = LeaseRenewal(generation=generation, lease_s=lease_s)
        await self.call("PUT", self._path(route, "/lease"), body, object)

    async def put_weights(
        self, route: str, *, stable: float, canary: float, reason: str = ""
    ) -> RouteStatus:
        """Percent, by hand: the agent will keep its hands off until `resume`."""
        body = Weights(stable=stable, canary=canary, reason=reason)
        return await self.call("PUT", self._path(route, "/weights"), body, RouteStatus)

    async def rollback(
        self, route: str, *, to: str = "", reason: str = "", force: bool = False
    ) -> RouteStatus:
        """Everything to stable, now; `to="previous"` undoes a promotion."""
        body = RollbackRequest(to=to, reason=reason, force=force)
        return await self.call("POST", self._path(route, "/rollback"), body, RouteStatus)

    @staticmethod
    def _path(route: str, rest: str = "") -> str:
        return f"/v1/routes/{quote(route, safe='')}{rest}"
