"""The control side over real workers in this process; the data port is not opened."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from gateway.admin import Admin, BadConfig, Readiness
from gateway.channel import Channel, Drain
from gateway.control import Control
from gateway.crew import Crew
from gateway.metrics import Metrics
from gateway.plan_store import PlanStore
from gateway.plans import PlanBook
from gateway.proxy import Proxy
from gateway.settings import AdminSettings, GatewaySettings, MatchSettings, RouteSettings
from gateway.worker import Worker
from mlops.contracts.plan import RoutePlan, Slot
from mlops.service.tokens import Tokens


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class HiredHere:
    """A worker that runs in this process instead of one of its own."""

    pid = 1

    def __init__(self, channel: Channel, worker: Worker, ended: asyncio.Task[None]) -> None:
        self.channel = channel
        self.worker = worker
        self._ended = ended

    def kill(self) -> None:
        self._ended.cancel()

    async def wait(self) -> int:
        await asyncio.wait([self._ended])
        return 0


async def hire_here() -> HiredHere:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    its_channel = await Channel.over(theirs)
    worker = Worker(its_channel, ())
    return HiredHere(
        await Channel.over(ours), worker, asyncio.ensure_future(_run(worker, its_channel))
    )


async def _run(worker: Worker, channel: Channel) -> None:
    try:
        if await worker.start():
            await worker.run()
    finally:
        channel.close()


class Desk:
    """A gateway's control side, and an HTTP client of its admin port."""

    def __init__(
        self, client: TestClient, clock: Clock, store: PlanStore, proxies: list[Proxy]
    ) -> None:
        self.client = client
        self.clock = clock
        self.store = store
        self.proxies = proxies

    def plan_in_force(self) -> RoutePlan:
        """The same in every worker."""
        first, *others = (proxy.live("rag").plan for proxy in self.proxies)
        assert others == [first] * (len(self.proxies) - 1)
        return first


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
    crews: list[Crew] = []

    async def make(
        *,
        operator: str | None = None,
        viewer: str | None = None,
        tokens: Path | None = None,
        managed: bool = False,
    ) -> Desk:
        clock = Clock()
        route = RouteSettings(
            name="rag", model="rag", match=MatchSettings(), stable=slot("A"), managed=managed
        )
        book = PlanBook()
        store = PlanStore(tmp_path / "state")
        book.seed(route, clock())
        settings = GatewaySettings(listen=(), admin=AdminSettings(), state_dir=tmp_path, routes=())
        hired: list[HiredHere] = []

        async def hire(_: int) -> HiredHere:
            hired.append(await hire_here())
            return hired[-1]

        crew = Crew(settings, 2, hire, lambda: ([route], [book.live("rag")]), ())
        await crew.start()
        crews.append(crew)
        control = Control(crew, book, store, clock, lambda _: route.model)
        admin = Admin(
            control,
            Readiness(control, lambda: True),
            Tokens(operator=operator, viewer=viewer, file=tokens),
            Metrics(book, crew, clock),
            refuse_reload,
        )
        client = TestClient(TestServer(admin.application()))
        await client.start_server()
        clients.append(client)
        return Desk(client, clock, store, [each.worker._proxy for each in hired])

    yield make
    for client in clients:
        await client.close()
    for crew in crews:
        crew.drain(Drain(timeout_s=0, idle_s=0))
        await crew.wait()


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
