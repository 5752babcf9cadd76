"""Who publishes a plan, told through the client of the admin API, decides whether it is held."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from mlops.contracts.api import AGENT_ACTOR
from mlops.contracts.plan import RoutePlan
from mlops.deployment.gateway_client import GatewayClient

OpenDesk = Callable[..., Awaitable[Any]]
MakePlan = Callable[..., RoutePlan]


@pytest.mark.parametrize("actor", ["", "alice", "Agent"])
async def test_a_plan_by_a_person_is_held_and_says_who(
    open_desk: OpenDesk, plan: MakePlan, actor: str
) -> None:
    """Also one that claims to be the agent's in its body."""
    desk = await open_desk()
    url = str(desk.client.make_url("/"))
    async with GatewayClient(url, "", actor=actor) as client:
        after = await client.put_plan(msgspec.structs.replace(plan(7), set_by="agent"))
    assert after.plan.hold
    expected = f"{actor} (operator)" if actor else "operator"
    assert after.plan.set_by == expected
    assert desk.store.load("rag").plan == after.plan
    assert desk.plan_in_force() == after.plan


async def test_a_plan_by_the_agent_stands_as_it_is(open_desk: OpenDesk, plan: MakePlan) -> None:
    desk = await open_desk()
    url = str(desk.client.make_url("/"))
    mine = msgspec.structs.replace(plan(7), set_by="ann (operator)")
    async with GatewayClient(url, "", actor=AGENT_ACTOR) as client:
        assert (await client.put_plan(mine)).plan == mine
