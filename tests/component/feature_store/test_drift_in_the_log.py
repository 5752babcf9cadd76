"""The agent's watcher on a real log: learns its reference from it, finds a change, starts again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from agent.drift import DriftSettings
from agent.drift_memory import DriftStore
from agent.drift_watcher import DELAY_S, DriftWatcher
from agent.loop import Runtime
from agent.memory import Memory
from agent.metrics import Metrics
from agent.publisher import View
from agent.release import Sight
from mlops.contracts.drift import DriftStatus
from mlops.contracts.plan import RoutePlan, Slot
from mlops.contracts.record import Row
from mlops.feature_store.log import FeatureLog
from tests.stored_rows import stored_row

BEGIN = int(datetime(2026, 4, 1, 12, tzinfo=UTC).timestamp())
A_SECOND, DIMS, REFERENCE_S = 20, 8, 96


@dataclass
class Loop:
    """An agent that leads, and the plan that its gateways have."""

    leads: bool = True

    @property
    def view(self) -> View:
        slot = Slot(version="1", endpoints=("http://127.0.0.1:9",))
        plan = RoutePlan(route="rag", generation=1, salt="rag", stable=slot, set_by="file")
        return View({"rag": (Sight(gateway="g", plan=plan),)}, ())


class World:
    """Queries second by second into the log, and a watcher; a new watcher is a restarted agent."""

    def __init__(self, log: FeatureLog, memory: Memory) -> None:
        self.memory = memory
        self._log = log
        self._written_s = BEGIN
        self._rng = np.random.default_rng(7)
        self.again()

    def again(self) -> None:
        self.watcher = DriftWatcher(
            DriftStore(self.memory),
            self._log,
            Loop(),
            DriftSettings(reference_s=REFERENCE_S, every_s=1.0),
            runtime=Runtime("me", "test", lambda: 0.0, lambda: float(self._written_s + DELAY_S)),
            metrics=Metrics(),
        )

    async def queries(self, seconds: int, *, moved: float = 0.0, text: str = "how") -> None:
        rows = []
        for second in range(self._written_s, self._written_s + seconds):
            vectors = self._rng.normal(size=(A_SECOND, DIMS)) + moved
            rows += [_row(second, n, one.tolist(), text) for n, one in enumerate(vectors)]
        await self._log.insert_rows(rows, token=f"from {self._written_s}")
        self._written_s += seconds

    async def look(self) -> DriftStatus:
        await self.watcher.look()
        return (await self.watcher.statuses())["rag"]

    async def kinds(self) -> list[str]:
        return [event.kind for event in await self.memory.events()]

    async def learn(self) -> None:
        """Until the reference is whole and watched with."""
        await self.watcher.look()
        await self.queries(REFERENCE_S + 1)
        await self.watcher.look()
        await self.queries(1)


def _row(second: int, number: int, vector: list[float], text: str) -> Row:
    ended = datetime.fromtimestamp(second, UTC) + timedelta(milliseconds=number)
    return stored_row(
        record_id=f"w-{second}-{number}", request_id=f"q{second}-{number}", ended_at=ended,
        generation=1, version="1", bucket=number, embedding=vector, query_text=text,
    )  # fmt: skip


@pytest.fixture
async def world(feature_log: FeatureLog, tmp_path: Path) -> AsyncIterator[World]:
    memory = Memory.open(f"sqlite:///{tmp_path}/agent.sqlite", ["team"])
    assert await memory.lead("me", 600.0)
    yield World(feature_log, memory)
    await memory.close()


async def test_a_change_in_the_log_is_told_once_also_after_a_restart(world: World) -> None:
    await world.learn()
    await world.queries(60)
    steady = await world.look()
    assert (steady.state, set(steady.features)) == ("watching", {"embedding", "script"})

    await world.queries(30, moved=0.6)
    drifted = await world.look()
    assert (drifted.state, list(drifted.detected)) == ("drifted", ["embedding"])
    assert await world.kinds() == ["drift.detected"]

    world.again()
    await world.queries(5, moved=0.6)
    again = await world.look()
    assert again.state == "drifted"
    assert again.features["embedding"].measures["distance"] > 1.0
    assert await world.kinds() == ["drift.detected"]


async def test_what_is_acknowledged_is_the_reference_from_then_on(world: World) -> None:
    await world.learn()
    await world.look()
    await world.queries(30, text="一个问题")
    assert "script" in (await world.look()).detected

    await world.watcher.acknowledge("rag", "ann", "we trained on these")
    await world.queries(REFERENCE_S + 1, text="一个问题")
    await world.watcher.look()
    await world.queries(60, text="一个问题")
    assert (await world.look()).state == "watching"
