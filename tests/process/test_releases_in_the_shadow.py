"""A release that is judged on copies first, with real processes: no user sees it before."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from mlops.local.stack import Stack
from tests.process import whole_stack
from tests.process.whole_stack import Client

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

POLICY: dict[str, Any] = {
    "steps": [{"setMirror": 100}, {"setWeight": 30}, {"pause": {}}],
    "lease": "5s",
    "grace": "1s",
    "dwell": "1s",
    "pairs": {"latency": "100%", "margin": "5%"},
    "checks": {"errors": {"margin": 0.05}},
}


async def test_a_bad_version_goes_back_unseen_and_a_good_one_gets_its_first_users(
    stack: Stack, upstreams: tuple[Any, Any], load: Any
) -> None:
    await whole_stack.start(stack, upstreams[0].url)
    async with (
        aiohttp.ClientSession() as session,
        load(stack.addresses["gateway"], rate_per_s=60.0) as traffic,
    ):
        client = Client(stack, session)
        upstreams[1].status = 500
        bad = await client.start_release(upstreams[1].url, POLICY)
        ended = await client.until_release(bad, lambda found: found["phase"] == "rolled_back")
        assert ended["reasons"][0].startswith("pairs, errors"), ended
        assert set(traffic.split()) == {"stable;1"}, "a user saw it"

        upstreams[1].status = 200
        good = await client.start_release(upstreams[1].url, POLICY, version="3")
        first = await client.until_release(good, lambda found: "errors" in found["checks"])
        assert first["weight"] == 0
        await client.until_release(good, lambda found: found["weight"] == 30)
        await traffic.until_answered(60)
        assert "canary;3" in traffic.split()
        await client.call("agent", "POST", f"/v1/releases/{good}/abort")
        await client.until_release(good, lambda found: found["phase"] == "aborted")
    assert {status for status, _ in traffic.answered.values()} == {200}
