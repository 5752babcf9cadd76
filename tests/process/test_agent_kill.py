"""Two real agents with one database and one real gateway, and no feature store at all."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mlops.local.processes import Command, Started, kill, start
from mlops.local.stack import Stack

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

CLOSED_PORT = "1"
"""Nothing listens there: the agents run without evidence."""

WAIT_S = 40.0
"""A dead leader keeps the other waiting for 15 s."""


class World:
    """The stack's gateway, and agents that share its directory's database."""

    def __init__(self, stack: Stack, session: aiohttp.ClientSession, memory: str) -> None:
        self._stack = stack
        self._memory = memory
        self._session = session
        self.agents: list[Started] = []

    def start_agent(self, name: str) -> Started:
        config = self._stack.directory / f"{name}.yaml"
        config.write_text(
            f"""
listen: 127.0.0.1:0
memory: "{self._memory}"
gateways: [{{url: "{self._stack.addresses["admin"]}", token: {{env: GATEWAY_OPERATOR_TOKEN}}}}]
tokens: {{operator: {{env: AGENT_OPERATOR_TOKEN}}}}
interval: 200ms
"""
        )
        environment = self._stack.environment() | {
            "MLOPS_CLICKHOUSE_HOST": "127.0.0.1",
            "MLOPS_CLICKHOUSE_PORT": CLOSED_PORT,
        }
        command = Command(
            name=name, arguments=["agent", "--config", str(config)], environment=environment
        )
        agent = start(command, self._stack.directory)
        self.agents.append(agent)
        return agent

    def kill_agent(self, agent: Started) -> None:
        kill(agent)
        os.waitpid(agent.pid, 0)
        self.agents.remove(agent)

    async def call(self, agent: Started, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self._stack.secrets['AGENT_OPERATOR_TOKEN']}"}
        url = f"{agent.urls[0]}{path}"
        async with self._session.request(method, url, json=body, headers=headers) as answer:
            content = await answer.json()
            assert answer.status < 300, content
            return content

    async def plan(self) -> Any:
        headers = {"Authorization": f"Bearer {self._stack.secrets['GATEWAY_OPERATOR_TOKEN']}"}
        url = f"{self._stack.addresses['admin']}/v1/routes/rag"
        async with self._session.get(url, headers=headers) as answer:
            return (await answer.json())["plan"]

    async def until_ready_says(self, agent: Started, expected: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while True:
                async with self._session.get(f"{agent.urls[0]}/readyz") as answer:
                    if (await answer.text()).strip() == expected:
                        return
                await asyncio.sleep(0.05)

    async def until_generation(self, generation: int) -> Any:
        async with asyncio.timeout(WAIT_S):
            while (plan := await self.plan())["generation"] < generation:
                await asyncio.sleep(0.05)
        return plan


@pytest.fixture
def memory(stack: Stack) -> str:
    """The address of the agents' database."""
    return f"sqlite:///{stack.directory / 'agents.sqlite'}"


@pytest.fixture
async def world(stack: Stack, memory: str) -> Any:
    route = {
        "name": "rag",
        "match": {"prefix": "/"},
        "stable": {"version": "1", "endpoints": ["http://127.0.0.1:9"]},
    }
    await asyncio.to_thread(stack.start_gateway, [route])
    async with aiohttp.ClientSession() as session:
        found = World(stack, session, memory)
        yield found
        for agent in list(found.agents):
            await asyncio.to_thread(found.kill_agent, agent)


class TestOnEitherDatabase:
    @pytest.fixture(params=["sqlite", "postgresql"])
    def memory(self, request: pytest.FixtureRequest, stack: Stack) -> str:
        if request.param == "postgresql":
            return str(request.getfixturevalue("postgresql"))
        return f"sqlite:///{stack.directory / 'agents.sqlite'}"

    async def test_the_second_agent_goes_on_where_a_killed_leader_stopped(
        self, world: World
    ) -> None:
        await the_second_agent_goes_on(world)


async def the_second_agent_goes_on(world: World) -> None:
    """Same release, same step, no generation twice; and no evidence never advances it."""
    first = await asyncio.to_thread(world.start_agent, "first")
    await world.until_ready_says(first, "leads")
    second = await asyncio.to_thread(world.start_agent, "second")
    await world.until_ready_says(second, "stands by")
    started = await world.call(
        first,
        "POST",
        "/v1/releases",
        {
            "route": "rag",
            "version": "2",
            "endpoints": ["http://127.0.0.1:10"],
            "reason": "test",
            "policy": {"steps": [{"setWeight": 20}, {"setWeight": 50}], "lease": "60s"},
        },
    )
    published = await world.until_generation(2)
    assert published["canary_share_bp"] == 2000

    await asyncio.to_thread(world.kill_agent, first)
    await world.until_ready_says(second, "leads")
    release = await world.call(second, "GET", f"/v1/releases/{started['id']}")
    assert (release["step"], release["generation"]) == (1, 2)
    assert await world.plan() == published

    await world.call(second, "POST", f"/v1/releases/{started['id']}/abort", {"reason": "enough"})
    plan = await world.until_generation(3)
    assert plan["generation"] == 3
    assert "canary" not in plan
    assert plan["stable"]["version"] == "1"


async def test_an_agent_ends_on_sigterm_and_refuses_a_bad_file(
    world: World, tmp_path: Path
) -> None:
    agent = await asyncio.to_thread(world.start_agent, "first")
    os.kill(agent.pid, signal.SIGTERM)
    _, status = await asyncio.to_thread(os.waitpid, agent.pid, 0)
    world.agents.remove(agent)
    assert os.waitstatus_to_exitcode(status) == 0

    bad = tmp_path / "bad.yaml"
    bad.write_text("gateways: []\nlisten: 127.0.0.1:0\nintervall: 1s\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent", "--config", str(bad), stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"bad.yaml" in errors
    assert b"intervall" in errors
