"""The watcher of drift over a real database: learns, tells once, survives a restart."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.drift import DAY_S, DriftSettings
from agent.drift_memory import DriftStore
from agent.drift_watcher import DELAY_S, DriftWatcher
from agent.loop import Runtime
from agent.memory import Memory
from agent.metrics import Metrics
from agent.outbox import Outbox
from agent.publisher import View
from agent.release import Sight
from mlops.contracts.evidence import EmbeddingSums, count_bin
from mlops.contracts.plan import RoutePlan, Slot
from mlops.feature_store.errors import Unavailable

DIMS = 8
START = 20_000 * DAY_S
PER_S = 5
REFERENCE_S = 600


def plan(version: str, generation: int) -> RoutePlan:
    slot = Slot(version=version, endpoints=("http://127.0.0.1:9",))
    return RoutePlan(route="rag", generation=generation, salt="rag", stable=slot)


class Log:
    """A route's queries, five a second; from `changed_at` on they are about something else."""

    def __init__(self) -> None:
        self.away = False
        self.changed_at = 10**12
        self.reads = 0

    def _mean(self, second: int) -> Any:
        return np.full(DIMS, 1.0 if second >= self.changed_at else 0.0)

    async def read_embedding_sums(
        self, route: str, *, since: int, until: int, every_s: int
    ) -> list[EmbeddingSums]:
        self.reads += 1
        if self.away:
            raise Unavailable("away")
        found = []
        for second in range(since, until + 1, every_s):
            count = PER_S * (min(second + every_s, until + 1) - second)
            random = np.random.default_rng(second)
            total = count * self._mean(second) + random.normal(size=DIMS) * np.sqrt(count)
            found.append(
                EmbeddingSums(
                    second=second,
                    generation=1,
                    arm="stable",
                    dims=DIMS,
                    count=count,
                    sum=total.tolist(),
                    squares=float(count * DIMS),
                    texts=count,
                    text_chars_bins={count_bin(50): count},
                    scripts={"latin": count},
                )
            )
        return found

    async def read_embedding_sample(self, sample: Any, *, since: int, until: int) -> Any:
        assert (sample.route, sample.version, sample.dims) == ("rag", "1", DIMS)
        return np.random.default_rng(1).normal(size=(1_000, DIMS)).tolist()

    async def read_hours(self, route: str, *, since: int, until: int) -> dict[tuple[int, int], int]:
        assert (until - since, until % DAY_S) == (8 * DAY_S, 0)
        return {(day, hour): 100 for day in range(8) for hour in range(24)}


@dataclass
class Loop:
    view: View | None
    leads: bool = True


class World:
    """One agent's watcher; `again` is the process after a restart."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.log = Log()
        self.now_s = float(START)
        self.loop = Loop(None)
        self.live(plan("1", 1))
        self.again()

    def again(self) -> None:
        self.metrics = Metrics()
        self.watcher = DriftWatcher(
            DriftStore(self.memory),
            self.log,
            self.loop,
            DriftSettings(reference_s=REFERENCE_S, every_s=30.0),
            runtime=Runtime("me", "code", lambda: 0.0, lambda: self.now_s),
            metrics=self.metrics,
        )

    def live(self, live: RoutePlan) -> None:
        self.loop.view = View({"rag": (Sight(gateway="g", plan=live),)}, ())

    async def go(self, seconds: int) -> Any:
        """Look every half minute for so long; the route's status."""
        for _ in range(seconds // 30):
            await self.memory.lead("me", 60.0)
            await self.watcher.look()
            self.now_s += 30.0
        return (await self.watcher.statuses()).get("rag")

    async def kinds(self) -> list[str]:
        return [event.kind for event in await self.memory.events()]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    memory = Memory.open(f"sqlite:///{tmp_path / 'agent.sqlite'}", ["team"])
    yield World(memory)
    await memory.close()


async def test_it_learns_then_watches_and_tells_a_change_once(world: World) -> None:
    status = await world.go(60)
    assert (status.state, status.version, status.features) == ("learning", "1", {})
    status = await world.go(REFERENCE_S + 600)
    assert status.state == "watching"
    assert status.queries > 1_000
    assert set(status.features) == {"embedding", "script", "hours"}
    assert await world.kinds() == []

    world.log.changed_at = int(world.now_s)
    status = await world.go(3_600)
    assert status.state == "drifted"
    assert list(status.detected) == ["embedding"]
    assert await world.kinds() == ["drift.detected"]
    (notice,) = await Outbox(world.memory).due(world.now_s, 10)
    assert notice.event.route == "rag"
    assert "mean embedding moved" in notice.event.reason
    text = world.metrics.render().decode()
    assert 'agent_drift_detected{feature="embedding",route="rag"} 1.0' in text


async def test_what_was_found_survives_a_restart_and_is_not_told_again(world: World) -> None:
    await world.go(REFERENCE_S + 600)
    world.log.changed_at = int(world.now_s)
    await world.go(1_800)
    world.again()
    status = await world.go(1_800)
    assert (status.state, list(status.detected)) == ("drifted", ["embedding"])
    assert await world.kinds() == ["drift.detected"]


async def test_a_change_during_a_restart_is_found_after_it(world: World) -> None:
    await world.go(REFERENCE_S + 300)
    world.log.changed_at = int(world.now_s)
    world.now_s += 3_600
    world.again()
    assert (await world.go(60)).state == "drifted"


async def test_acknowledging_takes_the_queries_as_they_are_now(world: World) -> None:
    await world.go(REFERENCE_S + 600)
    world.log.changed_at = int(world.now_s)
    await world.go(1_800)
    status = await world.watcher.acknowledge("rag", "alice (operator)", "a new product")
    assert (status.state, status.detected) == ("learning", {})
    assert await world.kinds() == ["drift.detected", "drift.acknowledged"]
    status = await world.go(REFERENCE_S)
    assert status.reference_since > "2024"
    assert await world.watcher.acknowledge("chat", "alice", "") is None


async def test_a_promotion_begins_a_new_reference(world: World) -> None:
    await world.go(REFERENCE_S + 600)
    world.live(plan("2", 5))
    status = await world.go(60)
    assert (status.state, status.version) == ("learning", "2")


async def test_whatever_fails_is_tried_again_and_nothing_is_remembered(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await world.go(REFERENCE_S + 300)
    world.log.away = True
    before = await world.go(300)
    assert "not looked at: away" in caplog.text
    world.log.away = False
    after = await world.go(60)
    assert after.state == before.state == "watching"
    assert after.queries > before.queries + 300 * PER_S - DELAY_S * PER_S


@pytest.mark.parametrize("stops", ["does not lead", "another leads"])
async def test_only_the_leader_remembers(
    world: World, stops: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stops == "another leads":
        await world.memory.lead("other", 600.0)
        await world.watcher.look()
    else:
        world.loop.leads = False
        monkeypatch.setattr("asyncio.sleep", _stop)
        with pytest.raises(StopAsyncIteration):
            await world.watcher.run()
    assert await world.watcher.statuses() == {}


async def _stop(_: float) -> None:
    raise StopAsyncIteration


Wait = Callable[..., Any]


async def test_the_api_tells_and_takes_an_acknowledgement(
    start: Any, gateway: Any, log: Any, wait: Wait
) -> None:
    agent = await start()

    async def looked_at() -> bool:
        return bool((await agent.call("GET", "/v1/drift"))[1])

    await wait(looked_at)
    status, one = await agent.call("GET", "/v1/routes/rag/drift", token="viewer")
    assert (status, one["state"], one["version"]) == (200, "learning", "1")
    path = "/v1/routes/rag/drift/acknowledge"
    assert (await agent.call("POST", path, token="viewer"))[0] == 403
    status, one = await agent.call("POST", path, {"reason": "known"})
    assert (status, one["state"]) == (200, "learning")
    assert (await agent.call("GET", "/v1/routes/none/drift"))[0] == 404
