"""What a whole agent tells Prometheus while what it needs is away."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agent.memory import Memory, MemoryUnavailable
from tests.component.agent.test_agent import WAITS, begin


async def scraped(agent: Any, name: str) -> float | None:
    """The sample of that name, with any labels; None where there is none."""
    async with agent.session.get(f"{agent.url}/metrics") as answer:
        found = re.search(rf"^{name}(?:{{.*}})? (\S+)$", await answer.text(), re.MULTILINE)
    return float(found[1]) if found else None


async def test_an_agent_without_its_database_leads_no_more_and_says_nothing_of_releases(
    start: Any, wait: Any, gateway: Any, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.loop.LEADER_TTL_S", 6.0)  # it leads for one second at a time
    agent = await start()
    await begin(agent, wait, gateway, WAITS)
    leading = {"agent_leader": 1.0, "agent_release_status": 0.0}

    async def tells(expected: dict[str, float | None]) -> bool:
        return all([await scraped(agent, name) == value for name, value in expected.items()])

    await wait(lambda: tells(leading))

    async def away(*_: object) -> bool:
        raise MemoryUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(Memory, "lead", away)
        await wait(lambda: tells({"agent_leader": 0.0, "agent_release_status": None}))
    await wait(lambda: tells(leading))


async def test_evidence_that_never_came_ages_from_the_beginning(
    start: Any, wait: Any, gateway: Any, log: Any
) -> None:
    log.away = True
    agent = await start()
    await begin(agent, wait, gateway, WAITS)

    async def ages() -> bool:
        age_s = await scraped(agent, "agent_evidence_age_seconds")
        return age_s is not None and age_s > 0.5

    await wait(ages)
