"""Two agents on one database and two gateways, all real: one is killed, one is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest
from aiohttp import web

from mlops.local.processes import Command, Started, kill, start
from mlops.local.stack import ANY_PORTS, Stack

pytestmark = [pytest.mark.process, pytest.mark.scenario, pytest.mark.timeout(180)]

WAIT_S = 60.0
"""A dead leader keeps the other waiting for 15 s."""
CLOSED_PORT = "1"
ROUTE = {
    "name": "rag",
    "match": {"prefix": "/"},
    "stable": {"version": "1", "endpoints": ["http://127.0.0.1:9"]},
}
REQUEST = {
    "route": "rag",
    "version": "2",
    "endpoints": ["http://127.0.0.1:10"],
    "reason": "test",
    "policy": {"steps": [{"setWeight": 20}, {"setWeight": 50}], "lease": "6s"},
}


class Relay:
    """A way to a server that can be cut and mended."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.is_cut = False
        self.url = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        assert self._server is not None
        self.cut()
        self._server.close()
        await self._server.wait_closed()

    def cut(self) -> None:
        self.is_cut = True
        for writer in self._open:
            writer.transport.abort()

    def mend(self) -> None:
        self.is_cut = False

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self._open |= {writer, there_writer}
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
        self._open -= {writer, there_writer}
        for one in (writer, there_writer):
            one.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


class Pager:
    """Takes notices; refuses all of them while `refuses`."""

    def __init__(self) -> None:
        self.refuses = False
        self.refused: Counter[str] = Counter()
        self.taken: Counter[str] = Counter()
        """Kinds of events, by how often each was taken."""
        self.ids: Counter[str] = Counter()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        kind = msgspec.json.decode(await request.read())["type"]
        if self.refuses:
            self.refused[kind] += 1
            return web.Response(status=503)
        self.taken[kind] += 1
        self.ids[request.headers["webhook-id"]] += 1
        return web.Response()


class World:
    def __init__(self, stacks: tuple[Stack, Stack], session: aiohttp.ClientSession) -> None:
        self.stacks = stacks
        self._session = session
        self._secrets = stacks[0].secrets
        self.relay = Relay(stacks[1].addresses["admin"])
        self.pager = Pager()
        self.agents: list[Started] = []

    def start_agent(self, name: str) -> Started:
        directory = self.stacks[0].directory
        token = {"env": "GATEWAY_OPERATOR_TOKEN"}
        urls = (self.stacks[0].addresses["admin"], self.relay.url)
        config = {
            "listen": "127.0.0.1:0",
            "memory": f"sqlite:///{directory / 'agents.sqlite'}",
            "gateways": [{"url": url, "token": token} for url in urls],
            "tokens": {"operator": {"env": "AGENT_OPERATOR_TOKEN"}},
            "notices": [{"name": "pager", "webhook": self.pager.url}],
            "interval": "200ms",
        }
        path = directory / f"{name}.yaml"
        path.write_bytes(msgspec.yaml.encode(config))
        nowhere = {"MLOPS_CLICKHOUSE_HOST": "127.0.0.1", "MLOPS_CLICKHOUSE_PORT": CLOSED_PORT}
        environment = self.stacks[0].environment() | nowhere
        command = Command(
            name=name, arguments=["agent", "--config", str(path)], environment=environment
        )
        agent = start(command, directory)
        self.agents.append(agent)
        return agent

    def kill_agent(self, agent: Started) -> None:
        kill(agent)
        os.waitpid(agent.pid, 0)
        self.agents.remove(agent)

    async def post(self, agent: Started, path: str, body: object) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self._secrets['AGENT_OPERATOR_TOKEN']}"}
        url = f"{agent.urls[0]}{path}"
        async with self._session.post(url, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def routes(self) -> list[Any]:
        """Of both gateways, asked directly."""
        headers = {"Authorization": f"Bearer {self._secrets['GATEWAY_OPERATOR_TOKEN']}"}
        found = []
        for stack in self.stacks:
            url = f"{stack.addresses['admin']}/v1/routes/rag"
            async with self._session.get(url, headers=headers) as answer:
                found.append(await answer.json())
        return found

    async def until_generations(self, *expected: int) -> list[Any]:
        found: list[Any] = []

        async def reached() -> bool:
            found[:] = await self.routes()
            return [one["plan"]["generation"] for one in found] == list(expected)

        await until(reached, lambda: found)
        return found

    async def until_ready_says(self, agent: Started, expected: str) -> None:
        async def says() -> bool:
            async with self._session.get(f"{agent.urls[0]}/readyz") as answer:
                return (await answer.text()).strip() == expected

        await until(says, lambda: expected)


async def until(holds: Callable[[], Any], seen: Callable[[], object]) -> None:
    try:
        async with asyncio.timeout(WAIT_S):
            while not await holds():
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"not within {WAIT_S:g} s; last seen: {seen()}")


@pytest.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    second = Stack(
        directory=stack.directory / "second",
        ports=ANY_PORTS,
        environ=os.environ,
        secrets=stack.secrets,
    )
    second.directory.mkdir()
    try:
        for one in (stack, second):
            await asyncio.to_thread(one.start_gateway, [ROUTE])
        async with aiohttp.ClientSession() as session:
            found = World((stack, second), session)
            await found.relay.start()
            runner = await _serve(found.pager)
            yield found
            for agent in list(found.agents):
                await asyncio.to_thread(found.kill_agent, agent)
            await runner.cleanup()
            await found.relay.close()
    finally:
        await asyncio.to_thread(second.stop)


async def _serve(pager: Pager) -> web.AppRunner:
    app = web.Application()
    app.router.add_post("/hook", pager.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    pager.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    return runner


async def _two(world: World) -> tuple[Started, Started]:
    first = await asyncio.to_thread(world.start_agent, "first")
    await world.until_ready_says(first, "leads")
    second = await asyncio.to_thread(world.start_agent, "second")
    await world.until_ready_says(second, "stands by")
    return first, second


async def test_notices_of_a_killed_leader_are_delivered_once_by_the_other(world: World) -> None:
    first, second = await _two(world)
    world.pager.refuses = True
    status, release = await world.post(first, "/v1/releases", REQUEST)
    assert status == 201
    await world.until_generations(2, 2)

    async def tried() -> bool:
        return {"release.started", "release.step"} <= set(world.pager.refused)

    await until(tried, lambda: world.pager.refused)
    await asyncio.to_thread(world.kill_agent, first)
    world.pager.refuses = False
    await world.until_ready_says(second, "leads")
    status, _ = await world.post(second, f"/v1/releases/{release['id']}/abort", {"reason": "no"})
    assert status == 202
    (one, other) = await world.until_generations(3, 3)
    assert one["plan"] == other["plan"]

    async def told() -> bool:
        return {"release.started", "release.step", "release.aborted"} <= set(world.pager.taken)

    await until(told, lambda: world.pager.taken)
    assert set(world.pager.ids.values()) == {1}
    assert world.pager.taken["release.step"] == 1


async def test_a_gateway_that_is_cut_off_ends_its_lease_and_is_brought_up_to_date(
    world: World,
) -> None:
    first, _ = await _two(world)
    status, release = await world.post(first, "/v1/releases", REQUEST)
    assert status == 201
    await world.until_generations(2, 2)

    world.relay.cut()
    status, _ = await world.post(first, f"/v1/releases/{release['id']}/abort", {"reason": "no"})
    assert status == 202
    (_, cut_off) = await world.until_generations(3, 2)

    async def lapsed() -> bool:
        nonlocal cut_off
        _, cut_off = await world.routes()
        return bool(cut_off["lease"]["lapsed"])

    await until(lapsed, lambda: cut_off)
    assert cut_off["share_bp"] == 0
    world.relay.mend()
    await world.until_generations(3, 3)


async def test_a_release_started_many_times_at_once_is_one(world: World) -> None:
    agents = await _two(world)

    answers = await asyncio.gather(
        *(world.post(agent, "/v1/releases", REQUEST) for agent in agents * 4)
    )

    assert Counter(status for status, _ in answers) == {201: 1, 409: 7}
    routes = await world.until_generations(2, 2)
    assert {one["plan"]["canary"]["version"] for one in routes} == {"2"}
