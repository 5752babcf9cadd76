"""A release that is judged on copies first, with real processes: no user sees it before."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from mlops.local.stack import Stack

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

POLICY: dict[str, Any] = {
    "steps": [{"setMirror": 100}, {"setWeight": 30}, {"pause": {}}],
    "lease": "5s",
    "grace": "1s",
    "dwell": "1s",
    "pairs": {"latency": "100%", "margin": "5%"},
    "checks": {"errors": {"margin": 0.05}},
}
WAIT_S = 60.0


class Agent:
    """The agent's API, with the operator's token."""

    def __init__(self, stack: Stack, session: aiohttp.ClientSession) -> None:
        self._url = f"{stack.addresses['agent']}/v1/releases"
        self._session = session
        self._headers = {"Authorization": f"Bearer {stack.secrets['AGENT_OPERATOR_TOKEN']}"}

    async def start(self, endpoint: str, version: str) -> str:
        body = {
            "route": "rag",
            "version": version,
            "endpoints": [endpoint],
            "reason": "test",
            "policy": POLICY,
        }
        async with self._session.post(self._url, json=body, headers=self._headers) as answer:
            found = await answer.json()
            assert answer.status == 201, found
            return str(found["id"])

    async def until(self, release_id: str, holds: Any) -> Any:
        found: Any = None
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    url = f"{self._url}/{release_id}"
                    async with self._session.get(url, headers=self._headers) as answer:
                        found = await answer.json()
                    if holds(found):
                        return found
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pytest.fail(f"not within {WAIT_S:g} s; last seen: {found}")

    async def abort(self, release_id: str) -> None:
        url = f"{self._url}/{release_id}/abort"
        async with self._session.post(url, headers=self._headers) as answer:
            assert answer.status == 202


async def test_a_bad_version_goes_back_unseen_and_a_good_one_gets_its_first_users(
    stack: Stack, upstreams: tuple[Any, Any], load: Any
) -> None:
    await asyncio.to_thread(stack.start_clickhouse)
    route = {
        "name": "rag",
        "match": {"prefix": "/"},
        "stable": {"version": "1", "endpoints": [upstreams[0].url]},
    }
    await asyncio.to_thread(stack.start_gateway, [route])
    await asyncio.to_thread(stack.start_recorder)
    await asyncio.to_thread(stack.start_agent)
    async with (
        aiohttp.ClientSession() as session,
        load(stack.addresses["gateway"], rate_per_s=60.0) as traffic,
    ):
        agent = Agent(stack, session)
        upstreams[1].status = 500
        bad = await agent.start(upstreams[1].url, "2")
        ended = await agent.until(bad, lambda found: found["phase"] == "rolled_back")
        assert ended["reasons"][0].startswith("pairs, errors"), ended
        assert set(traffic.split()) == {"stable;1"}, "a user saw it"

        upstreams[1].status = 200
        good = await agent.start(upstreams[1].url, "3")
        first = await agent.until(good, lambda found: "errors" in found["checks"])
        assert first["weight"] == 0
        await agent.until(good, lambda found: found["weight"] == 30)
        await traffic.until_answered(60)
        assert "canary;3" in traffic.split()
        await agent.abort(good)
        await agent.until(good, lambda found: found["phase"] == "aborted")
    assert {status for status, _ in traffic.answered.values()} == {200}
