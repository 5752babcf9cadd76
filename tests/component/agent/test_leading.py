"""Who acts: where a cycle took longer than the leader's lease, and where the clock was set back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.gatekeeper import Gatekeeper
from agent.journal import Journal
from agent.loop import LEADER_TTL_S, Loop, Runtime
from agent.memory import Memory
from agent.metrics import Metrics
from agent.policy import Policy
from agent.policy_file import to_document
from agent.providers import Providers
from agent.publisher import View
from agent.release import Change, Phase, Publish, Sight, Verb
from agent.rules import Rules
from agent.verbs import ask
from mlops.contracts.plan import RoutePlan, Slot
from mlops.feature_store.settings import ClickHouseSettings
from tests import releases

NOW_S = 1_000.0
BEGUN = RoutePlan(
    route="rag",
    generation=2,
    salt="rel-1",
    stable=Slot(version="1", endpoints=("http://127.0.0.1:9",)),
    canary=Slot(version="2", endpoints=("http://127.0.0.1:10",)),
    canary_share_bp=500,
    lease_s=30.0,
)


class Clock:
    """Monotonic; stands still unless told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class SlowLog:
    """An observer whose log takes this long to say nothing."""

    def __init__(self, clock: Clock, takes_s: float) -> None:
        self._clock, self._takes_s = clock, takes_s

    async def observe(self, *_: object) -> None:
        self._clock.now_s += self._takes_s

    def forget(self, _: object) -> None:
        return None


class OneGateway:
    """Has the canary's plan, and takes what is published."""

    def __init__(self) -> None:
        self.published: list[RoutePlan] = []

    async def look(self) -> View:
        return View({"rag": (Sight(gateway="one", plan=BEGUN, lease_remaining_s=20.0),)}, ())

    async def publish(self, write: Publish) -> list[str]:
        self.published.append(write.plan)
        return []


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'agent.sqlite'}"


def loop_of(memory: Memory, gateways: Any, observer: Any, clock: Clock) -> Loop:
    rules = Rules(guards_embedding_space=False)
    return Loop(
        memory,
        gateways,
        observer,
        Journal(memory, 0),
        Gatekeeper(rules, Providers(ClickHouseSettings.parse({})), lambda: NOW_S),
        metrics=Metrics(),
        runtime=Runtime("me", "code", clock, lambda: NOW_S),
    )


async def test_a_read_that_outlasts_the_leadership_keeps_no_command_waiting(address: str) -> None:
    memory, clock, gateways = Memory.open(address), Clock(), OneGateway()
    begun = releases.release(
        id="rel-1",
        policy=to_document(Policy()),
        candidate=BEGUN.canary,
        base=BEGUN.stable,
        plan=BEGUN,
        in_force_since_s=NOW_S,
        started_at_s=NOW_S,
    )
    asked = ask(begun, Verb.ABORT, "ann", "wrong build", NOW_S).release
    await memory.create(asked, Change(kind="release.started", actor="ann", reason="t"), NOW_S)
    loop = loop_of(memory, gateways, SlowLog(clock, 2 * LEADER_TTL_S), clock)

    await loop.cycle()

    (kept,) = await memory.newest()
    assert kept.release.phase is Phase.ABORTED
    assert [plan.canary for plan in gateways.published] == [None]
    await memory.close()


async def test_who_was_replaced_during_a_slow_read_writes_nothing(address: str) -> None:
    memory, clock, gateways = Memory.open(address), Clock(), OneGateway()
    plan = releases.release(
        id="rel-1", policy=to_document(Policy()), candidate=BEGUN.canary, started_at_s=NOW_S
    )
    await memory.create(plan, Change(kind="release.started", actor="ann", reason="t"), NOW_S)

    class Replaced(SlowLog):
        async def observe(self, *_: object) -> None:
            await super().observe()
            await memory.resign("me")
            assert await memory.lead("another", LEADER_TTL_S)

    await loop_of(memory, gateways, Replaced(clock, 2 * LEADER_TTL_S), clock).cycle()

    (kept,) = await memory.newest()
    assert kept.revision == 1
    assert gateways.published == []
    await memory.close()


async def test_a_lease_dated_by_a_clock_that_was_ahead_keeps_nobody_out(address: str) -> None:
    memory = Memory.open(address)
    assert await memory.lead("dead", 3600.0)  # as if the clock was set back by an hour
    assert await memory.lead("another", LEADER_TTL_S)
    assert not await memory.lead("third", LEADER_TTL_S)
    await memory.close()
