"""The worlds of `tests/component/gateway`, for several routes and for what upstreams may do."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.plans import seed_plan
from gateway.proxy import Proxy
from gateway.routing import LivePlan
from gateway.settings import MatchSettings, RouteSettings
from mlops.contracts.plan import Slot
from tests.component.gateway.conftest import World, pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]


class RoutedWorld(World):
    """A world whose gateway has the routes that a test gives it."""

    async def serve(self, *routes: RouteSettings) -> None:
        """Each route starts with the plan of its file."""
        self.proxy = Proxy(routes, self.spool)
        for route in routes:
            self.proxy.apply(LivePlan(seed_plan(route)))
        await self.listen()

    async def get(self, *lines: bytes, target: bytes = b"/", method: bytes = b"GET") -> str:
        """Who served one request with these header lines."""
        client = await self.client()
        head = b"%b %b HTTP/1.1\r\nHost: a\r\n" % (method, target)
        if any(line.lower().startswith(b"host:") for line in lines):
            head = b"%b %b HTTP/1.1\r\n" % (method, target)
        await client.send(b"%b%b\r\n" % (head, b"".join(line + b"\r\n" for line in lines)))
        status, headers, _ = await client.answer()
        client.close()
        return headers.get("x-served-by", str(status))


def a_route(name: str = "rag", stable: str = "", canary: str = "", **more: object) -> RouteSettings:
    """One stable endpoint of version 1 and, if given, one canary endpoint of version 2."""
    match = more.pop("match", None) or MatchSettings()
    assert isinstance(match, MatchSettings)
    return RouteSettings(
        name=name,
        model=name,
        match=match,
        stable=Slot(version="1", endpoints=(stable,)),
        canary=Slot(version="2", endpoints=(canary,)) if canary else None,
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture
async def world() -> AsyncIterator[RoutedWorld]:
    made = RoutedWorld()
    try:
        yield made
    finally:
        await made.close()
