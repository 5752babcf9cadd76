"""A whole stack under test: started in order, asked and told what to do with operator tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from mlops.local.stack import Stack

WAIT_S = 60.0
"""A condition that has not come by then is not coming."""


async def start(stack: Stack, stable_url: str, **route: Any) -> dict[str, Any]:
    """Engine, gateway, recorder, agent; the route `rag` that the gateway serves."""
    served = {
        "name": "rag",
        "match": {"prefix": "/"},
        "stable": {"version": "1", "endpoints": [stable_url]},
    } | route
    await asyncio.to_thread(stack.start_clickhouse)
    await asyncio.to_thread(stack.start_gateway, [served])
    await asyncio.to_thread(stack.start_recorder)
    await asyncio.to_thread(stack.start_agent)
    return served


class Client:
    """The admin API of the gateway and the API of the agent."""

    def __init__(self, stack: Stack, session: aiohttp.ClientSession, wait_s: float = WAIT_S):
        self._stack = stack
        self._session = session
        self._wait_s = wait_s

    async def call(self, part: str, method: str, path: str, body: object = None) -> Any:
        name = "GATEWAY_OPERATOR_TOKEN" if part == "admin" else "AGENT_OPERATOR_TOKEN"
        async with self._session.request(
            method,
            f"{self._stack.addresses[part]}{path}",
            json=body,
            headers={"Authorization": f"Bearer {self._stack.secrets[name]}"},
        ) as answer:
            content = await answer.json()
            assert answer.status < 300, content
            return content

    async def route(self) -> Any:
        return await self.call("admin", "GET", "/v1/routes/rag")

    async def release(self, release_id: str) -> Any:
        return await self.call("agent", "GET", f"/v1/releases/{release_id}")

    async def start_release(self, url: str, policy: dict[str, Any], version: str = "2") -> str:
        """Its id."""
        asked = {
            "route": "rag",
            "version": version,
            "endpoints": [url],
            "reason": "test",
            "policy": policy,
        }
        return str((await self.call("agent", "POST", "/v1/releases", asked))["id"])

    async def cycles(self) -> int:
        """How many the agent has completed."""
        async with self._session.get(f"{self._stack.addresses['agent']}/metrics") as answer:
            for line in (await answer.text()).splitlines():
                name, _, value = line.partition(" ")
                if name == "agent_cycle_seconds_count":
                    return int(float(value))
        raise AssertionError("agent_cycle_seconds is not among the agent's metrics")

    async def until(self, read: Callable[[], Awaitable[Any]], holds: Callable[[Any], bool]) -> Any:
        """Ask `read` until its answer holds; the last answer is in the failure."""
        seen: Any = None
        try:
            async with asyncio.timeout(self._wait_s):
                while True:
                    seen = await read()
                    if holds(seen):
                        return seen
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pytest.fail(f"not within {self._wait_s:g} s; last seen: {seen}")

    async def until_release(self, release_id: str, holds: Callable[[Any], bool]) -> Any:
        return await self.until(lambda: self.release(release_id), holds)
