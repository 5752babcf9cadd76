"""An agent in this process: real database, real HTTP, a fake gateway with the real plan book."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from agent.app import Agent
from agent.drift import DriftSettings
from agent.memory import Memory
from agent.rules import Rules
from agent.settings import AgentSettings, GatewaySettings
from mlops.feature_store.settings import ClickHouseSettings
from mlops.service.tls import ServerContext
from mlops.service.tls_settings import ServerTls
from tests.component.agent.fakes import FakeGateway, FakeLog

WAIT_S = 45.0
"""For a condition, on a full machine; it ends the wait as soon as it holds."""


class Running:
    """A running agent and a client of its API."""

    def __init__(self, agent: Agent, url: str, session: aiohttp.ClientSession) -> None:
        self.agent = agent
        self.url = url
        self.session = session
        self._ended = False

    async def stop(self) -> None:
        """End it as SIGTERM does; once."""
        if not self._ended:
            self._ended = True
            await self.session.close()
            await self.agent.stop()

    async def call(
        self, method: str, path: str, body: object = None, *, token: str = "operator"
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}", "x-actor": "ann"}
        url = f"{self.url}{path}"
        async with self.session.request(method, url, json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def release(self, release_id: str) -> Any:
        _, found = await self.call("GET", f"/v1/releases/{release_id}")
        return found


async def until(holds: Callable[[], Awaitable[Any]]) -> Any:
    """Ask until the answer is true; bounded."""
    async with asyncio.timeout(WAIT_S):
        while not (found := await holds()):
            await asyncio.sleep(0.02)
        return found


@pytest.fixture
def new_gateway() -> type[FakeGateway]:
    """The class, for tests that serve several."""
    return FakeGateway


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with served() as fake:
        yield fake


@pytest.fixture
async def second_gateway(gateways: list[FakeGateway]) -> AsyncIterator[FakeGateway]:
    """One more that the agents know; ask for it before they are started."""
    async with served() as fake:
        gateways.append(fake)
        yield fake


@pytest.fixture
def gateways(gateway: FakeGateway) -> list[FakeGateway]:
    """What agents are started with."""
    return [gateway]


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[FakeGateway]:
    fake = FakeGateway()
    runner = web.AppRunner(fake.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    fake.url = f"http://{host}:{port}"
    yield fake
    await runner.cleanup()


@pytest.fixture
async def log(gateway: FakeGateway) -> AsyncIterator[FakeLog]:
    """Notes the live split ten times a second, as rows would."""
    fake = FakeLog(gateway)

    async def follow() -> None:
        while True:
            fake.note()
            await asyncio.sleep(0.1)

    task = asyncio.create_task(follow())
    yield fake
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The address of the test's one database; a test on PostgreSQL overrides it."""
    return f"sqlite:///{tmp_path / 'agent.sqlite'}"


@pytest.fixture
def rules() -> Rules:
    """What the agent's file says of gates, notices, freezes and caps; a test overrides it."""
    return Rules()


@pytest.fixture
def token_file() -> Path | None:
    """Tokens beside those of the environment; a test overrides it."""
    return None


@pytest.fixture
async def start(
    database: str,
    gateways: list[FakeGateway],
    log: FakeLog,
    rules: Rules,
    token_file: Path | None,
) -> AsyncIterator[Callable[[], Awaitable[Running]]]:
    """Start an agent on the test's one database; each call one more."""
    running: list[Running] = []

    async def one() -> Running:
        url = database
        settings = AgentSettings(
            port=0,
            memory=url,
            gateways=tuple(GatewaySettings(url=one.url) for one in gateways),
            operator_token="operator",
            viewer_token="viewer",
            token_file=token_file,
            interval_s=0.1,
            drift=DriftSettings(every_s=0.1),
            rules=rules,
            clickhouse=ClickHouseSettings(),
        )
        memory = Memory.open(url, [target.name for target in rules.notices])
        agent = Agent(settings, memory, log)  # type: ignore[arg-type]
        address = await agent.start()
        found = Running(agent, address, aiohttp.ClientSession())
        running.append(found)
        return found

    yield one
    for each in running:
        await each.stop()


class Receiver:
    """A real HTTP server that keeps what it was sent and answers as a test says."""

    def __init__(self, runner: web.AppRunner) -> None:
        self.url = ""
        self._runner = runner
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: dict[str, Callable[[bytes], Any]] = {}

    async def listen(self, tls: ServerTls | None = None) -> str:
        """On one more port; its address."""
        context = None if tls is None else ServerContext(tls).front
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = self._runner.addresses[-1][1]
        return f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append((request.path, headers, body))
        answer = self.answers.get(request.path)
        given = answer(body) if answer else web.Response(status=404)
        return given if isinstance(given, web.Response) else await given

    def bodies(self, path: str) -> list[Any]:
        return [msgspec.json.decode(body) for at, _, body in self.received if at == path]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    app = web.Application()
    runner = web.AppRunner(app, access_log=None)
    found = Receiver(runner)
    app.router.add_route("*", "/{path:.*}", found.answer)
    await runner.setup()
    found.url = await found.listen()
    yield found
    await runner.cleanup()


@pytest.fixture
def wait() -> Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]:
    return until
