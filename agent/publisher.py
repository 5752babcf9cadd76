"""Talk to the gateways: read what is live, and make the writes, on all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.discovery import Discovery
from agent.release import Publish, Renew, Sight
from mlops.contracts.api import RouteStatus
from mlops.deployment.errors import GatewayError, GatewayUnavailable, StaleGeneration
from mlops.deployment.gateway_client import GatewayClient


@dataclass(frozen=True, slots=True)
class View:
    """All gateways at one moment."""

    routes: Mapping[str, tuple[Sight, ...]]
    silent: tuple[Sight, ...]
    """Gateways that did not answer: they may have any route."""

    def of(self, route: str) -> tuple[Sight, ...]:
        """Of one route: the gateways that have it, and those that may."""
        return (*self.routes.get(route, ()), *self.silent)


class Gateways:
    """All gateways of this agent. One that fails holds nobody up longer than a client's timeout."""

    def __init__(self, discovery: Discovery, now_s: Callable[[], float]) -> None:
        """`now_s` is monotonic."""
        self._discovery = discovery
        self._now_s = now_s
        self._heard_s: dict[str, float] = {}
        """Before the first answer: since it was known, as its lease may have begun just then."""
        self._lease_s: dict[str, float] = {}
        """By gateway, the longest lease among the plans it was last seen with."""

    async def close(self) -> None:
        """Close every gateway's client."""
        await self._discovery.close()

    async def look(self) -> View:
        """What is live on every route of every gateway."""
        await self._discovery.refresh(lambda url: self._lease_s.get(url, 0.0))
        clients = dict(self._discovery.clients)
        self._heard_s = {url: self._heard_s.get(url, self._now_s()) for url in clients}
        routes: dict[str, list[Sight]] = {}
        silent: list[Sight] = []

        async def one(client: GatewayClient) -> None:
            try:
                statuses = await client.routes()
            except GatewayError as error:
                since_s = self._now_s() - self._heard_s[client.url]
                sight = Sight(gateway=client.url, silent_for_s=since_s, problem=str(error))
                silent.append(sight)
                return
            self._heard_s[client.url] = self._now_s()
            leases_s = [status.lease.lease_s for status in statuses if status.lease is not None]
            self._lease_s[client.url] = max(leases_s, default=0.0)
            for status in statuses:
                routes.setdefault(status.plan.route, []).append(_sight(client.url, status))

        await asyncio.gather(*map(one, clients.values()))
        return View({route: tuple(sights) for route, sights in routes.items()}, tuple(silent))

    async def publish(self, write: Publish) -> list[str]:
        """Returns a problem for every gateway that did not take the plan."""

        async def put(client: GatewayClient) -> None:
            await client.put_plan(write.plan)

        return await self._everywhere(write.gateways, put)

    async def renew(self, write: Renew) -> list[str]:
        """Returns a problem for every gateway that did not renew."""

        async def put(client: GatewayClient) -> None:
            await client.renew_lease(write.route, write.generation, write.lease_s)

        return await self._everywhere(write.gateways, put)

    async def by_hand(
        self,
        urls: Sequence[str],
        actor: str,
        call: Callable[[GatewayClient], Awaitable[RouteStatus]],
    ) -> dict[str, GatewayError]:
        """What a person does from here, in the person's name, on these gateways at once.

        Returns why, of those that did not confirm.
        """

        async def one(url: str) -> GatewayError | None:
            client = self._discovery.clients.get(url)
            if client is None:
                return GatewayUnavailable("it has left")
            async with client.on_behalf_of(actor) as ours:
                try:
                    await call(ours)
                except GatewayError as error:
                    return error
            return None

        answers = await asyncio.gather(*map(one, urls))
        return {url: why for url, why in zip(urls, answers, strict=True) if why is not None}

    async def _everywhere(
        self, urls: Sequence[str], call: Callable[[GatewayClient], Awaitable[None]]
    ) -> list[str]:
        async def one(url: str) -> str:
            client = self._discovery.clients.get(url)
            if client is None:
                return ""  # it has left meanwhile
            try:
                await call(client)
            except StaleGeneration as error:
                return f"{error} (the next cycle looks again)"
            except GatewayError as error:
                return str(error)
            return ""

        problems = await asyncio.gather(*map(one, urls))
        return [problem for problem in problems if problem]


def _sight(gateway: str, status: RouteStatus) -> Sight:
    lease = status.lease
    remaining_s = None
    if lease is not None:
        remaining_s = 0.0 if lease.lapsed else max(lease.remaining_s, 0.001)
    return Sight(gateway=gateway, plan=status.plan, lease_remaining_s=remaining_s)
