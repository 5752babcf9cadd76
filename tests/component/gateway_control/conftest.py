"""The admin API over a real proxy, plan book and store; the data port is not opened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin import Admin, BadConfig, Readiness
from gateway.control import Control
from gateway.metrics import Metrics
from gateway.plan_store import PlanStore
from gateway.plans import PlanBook
from gateway.proxy import Proxy
from gateway.settings import AdminSettings, MatchSettings, RouteSettings
from mlops.contracts.plan import RoutePlan, Slot
from mlops.service.tokens import Tokens


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Desk:
    """A gateway's control side, and an HTTP client of its admin port."""

    def __init__(self, client: TestClient, clock: Clock, store: PlanStore, proxy: Proxy) -> None:
        self.client = client
        self.clock = clock
        self.store = store
        self.proxy = proxy


@pytest.fixture
async def endpoint() -> AsyncIterator[str]:
    """Something that accepts TCP connections, and nothing more."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def closed_endpoint() -> str:
    """A port that nothing listens on."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def slot(endpoint: str) -> Callable[[str], Slot]:
    """A version whose endpoint answers."""
    return lambda version: Slot(version=version, endpoints=(endpoint,), headers={"x-key": "s3cret"})


@pytest.fixture
async def open_desk(
    tmp_path: Path, slot: Callable[[str], Slot]
) -> AsyncIterator[Callable[..., Awaitable[Desk]]]:
    """Make a desk, with the tokens given; several may be opened one after another."""
    clients: list[TestClient] = []

    async def make(
        *, operator: str | None = None, viewer: str | None = None, managed: bool = False
    ) -> Desk:
        clock = Clock()
        route = RouteSettings(
            name="rag", model="rag", match=MatchSettings(), stable=slot("A"), managed=managed
        )
        proxy = Proxy([route], None)
        book = PlanBook()
        store = PlanStore(tmp_path / "state")
        proxy.apply(book.seed(route, clock()))
        control = Control(proxy, book, store, clock)
        settings = AdminSettings(operator_token=operator, viewer_token=viewer)
        metrics = Metrics(proxy, book, lambda: {"spool_full": 3}, clock, "worker-1")
        admin = Admin(
            control,
            Readiness(control),
            Tokens(operator=settings.operator_token, viewer=settings.viewer_token),
            metrics,
            refuse_reload,
        )
        client = TestClient(TestServer(admin.application()))
        await client.start_server()
        clients.append(client)
        return Desk(client, clock, store, proxy)

    yield make
    for client in clients:
        await client.close()


async def refuse_reload() -> str:
    raise BadConfig("gateway.yaml: routes[0]: unknown key 'nme'; did you mean 'name'?")


@pytest.fixture
def plan(slot: Callable[[str], Slot]) -> Callable[..., RoutePlan]:
    """A canary at 10 % under a lease of 30 s."""

    def make(generation: int, *, lease_s: float | None = 30.0) -> RoutePlan:
        return RoutePlan(
            route="rag",
            generation=generation,
            salt="release-1",
            stable=slot("A"),
            canary=slot("B"),
            canary_share_bp=1000,
            lease_s=lease_s,
        )

    return make
