"""Watch the queries of every route for drift, apart from the loop that decides.

Slow on purpose, and never in the way: it has a cadence and reads of its own, and whatever fails
here is logged and tried again. It never moves a weight.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.drift import (
    DAY_S,
    REFERENCE_BLOCKS,
    ROUTING,
    Alarm,
    DriftMemory,
    DriftSettings,
    RouteDrift,
    begun,
    with_alarms,
)
from agent.drift_memory import DriftStore, KeptDrift
from agent.judge.drift import MIN_REFERENCE, hour_mix
from agent.loop import Runtime
from agent.memory import MemoryUnavailable, NotLeader, Outdated
from agent.metrics import Metrics
from agent.moments import iso
from agent.publisher import View
from agent.release import Change
from mlops.contracts.api import AGENT_ACTOR
from mlops.contracts.drift import DriftStatus
from mlops.contracts.evidence import EmbeddingSums
from mlops.contracts.plan import RoutePlan
from mlops.feature_store.embedding_sums import EmbeddingSample
from mlops.feature_store.errors import Refused, Unavailable

log = logging.getLogger(__name__)

DELAY_S: Final = 60
"""What is younger is not read: rows may still be on their way. What comes later than that, after an
outage, is left out; it is in nobody's way."""
SAMPLE_ROWS: Final = 2_000
"""Embeddings of a reference: 6 MB with 384 numbers each."""
CATCH_UP_S: Final = 6 * 3_600
"""After a restart so much is read again; what was found before that is remembered anyway."""
MAX_SPANS: Final = 720
"""In one read."""
SPANS_AT_ONCE: Final = 20
"""Then the cycle has its turn: each takes about half a millisecond."""
READ_TIMEOUT_S: Final = 30.0
STANDBY_S: Final = 1.0
"""Between two questions whether this agent leads."""
REFERENCE_DAYS: Final = 7
"""Days before yesterday that its hours are compared with; three are enough to begin."""


class DriftLog(Protocol):
    """What is read of queries. Seconds are Unix time; all raise Unavailable and Refused."""

    async def read_embedding_sums(
        self, route: str, *, since: int, until: int, every_s: int
    ) -> Sequence[EmbeddingSums]:
        """From `since` through `until`, in spans of `every_s`, oldest first."""

    async def read_embedding_sample(
        self, sample: EmbeddingSample, *, since: int, until: int
    ) -> list[list[float]]:
        """Vectors of one length, (rows, dimensions), from `since` through `until`."""

    async def read_hours(
        self, route: str, *, since: int, until: int
    ) -> Mapping[tuple[int, int], int]:
        """Queries by day (0 is that of `since`) and hour, UTC; `until` is not included."""


class Leading(Protocol):
    """The loop, as far as it is of interest here."""

    @property
    def leads(self) -> bool:
        """Whether this agent acts."""

    @property
    def view(self) -> View | None:
        """Of all gateways; None before the first cycle."""


@dataclass(slots=True)
class _Route:
    """What this process holds of one route; rebuilt after a restart."""

    drift: RouteDrift
    memory: DriftMemory
    next_second: int
    day: int = 0
    """The last whole day whose hours were looked at."""


class DriftWatcher:
    """Looks at every route of the gateways, while this agent leads."""

    def __init__(
        self,
        store: DriftStore,
        drift_log: DriftLog,
        loop: Leading,
        settings: DriftSettings,
        *,
        runtime: Runtime,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._log = drift_log
        self._loop = loop
        self._settings = settings
        self._holder = runtime.holder
        self._unix_s = runtime.unix_s
        self._metrics = metrics
        self._routes: dict[str, _Route] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if self._loop.leads:
                await self.look()
            await asyncio.sleep(self._settings.every_s if self._loop.leads else STANDBY_S)

    async def look(self) -> None:
        """One look at every route. Never raises but when cancelled."""
        view = self._loop.view
        if view is None:
            return
        try:
            kept = await self._store.all()
        except MemoryUnavailable as error:
            log.warning("drift: %s", error)
            return
        for gone in self._routes.keys() - view.routes.keys():
            del self._routes[gone]
        for route, sights in view.routes.items():
            plans = [sight.plan for sight in sights if sight.plan is not None]
            if plans:
                plan = max(plans, key=lambda one: one.generation)
                await self._look_at(route, plan, kept.get(route))

    async def _look_at(self, route: str, plan: RoutePlan, kept: KeptDrift | None) -> None:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                await self._watch(route, plan, kept)
        except (Unavailable, Refused, MemoryUnavailable, TimeoutError) as error:
            log.info("drift of %s: not looked at: %s", route, str(error) or "no answer in time")
        except (Outdated, NotLeader):
            log.info("drift of %s: changed by somebody else meanwhile", route)
        except Exception:
            self._routes.pop(route, None)
            log.exception("BUG: drift of %s was not looked at; please report this", route)

    # ---- one route -----------------------------------------------------------------------------

    async def _watch(self, route: str, plan: RoutePlan, kept: KeptDrift | None) -> None:
        until = int(self._unix_s()) - DELAY_S
        if kept is None or kept.memory.version != plan.stable.version:
            fresh = begun(route, plan.stable.version, plan.generation, until)
            log.info("drift of %s: a reference begins with version %s", route, fresh.version)
            await self._remember(fresh, (), kept.revision if kept else 0)
            return
        memory = kept.memory
        if memory.until_s is None:
            await self._learn(memory, until, kept.revision)
            return
        held = self._routes.get(route)
        if held is None or held.memory.since_s != memory.since_s:
            drift = await self._built(memory)
            first = max(memory.until_s + 1, until - CATCH_UP_S)
            held = self._routes[route] = _Route(drift, memory, first)
        await self._compare_hours(route, held, until)
        alarms = await self._read_on(route, held, until)
        self._metrics.show_drift(route, held.drift.features(), memory.found)
        found = with_alarms(memory, alarms, until)
        if found != memory:
            # A look that catches up may see a feature's alarm more than once: the first is told.
            new = {one.feature: one for one in reversed(alarms) if one.feature not in memory.found}
            await self._remember(found, tuple(map(_change, new.values())), kept.revision)
            self._metrics.show_drift(route, held.drift.features(), found.found)

    async def _learn(self, memory: DriftMemory, until: int, revision: int) -> None:
        """A reference is whole after its time, and once it has enough queries."""
        self._routes.pop(memory.route, None)
        if until - memory.since_s + 1 < self._settings.reference_s:
            return
        blocks = await self._blocks(memory, until)
        queries = sum(one.count for one in blocks)
        if queries >= MIN_REFERENCE:
            log.info("drift of %s: a reference of %d queries is whole", memory.route, queries)
            await self._remember(_until(memory, until), (), revision)

    async def _built(self, memory: DriftMemory) -> RouteDrift:
        assert memory.until_s is not None, "a reference that is whole"
        blocks = await self._blocks(memory, memory.until_s)
        embeddings = {
            dims: rows
            for dims in sorted({one.dims for one in blocks if one.dims})
            if len(rows := await self._sample(memory, blocks, dims))
        }
        return RouteDrift(memory, blocks, embeddings, every_s=self._settings.every_s)

    async def _sample(
        self, memory: DriftMemory, blocks: Sequence[EmbeddingSums], dims: int
    ) -> NDArray[np.floating]:
        """Some embeddings of each stretch of the reference: a read of a few rows each, however
        many queries there were."""
        assert memory.until_s is not None, "a reference that is whole"
        every_s = _stretch_s(memory, memory.until_s)
        seconds = sorted({one.second for one in blocks if one.dims == dims and one.count})
        sample = EmbeddingSample(
            memory.route, memory.version, dims, -(-SAMPLE_ROWS // max(1, len(seconds)))
        )
        rows: list[list[float]] = []
        for second in seconds:
            until = min(second + every_s - 1, memory.until_s)
            rows += await self._log.read_embedding_sample(sample, since=second, until=until)
        return np.array(rows, np.float32)

    async def _blocks(self, memory: DriftMemory, until: int) -> Sequence[EmbeddingSums]:
        every_s = _stretch_s(memory, until)
        return await self._log.read_embedding_sums(
            memory.route, since=memory.since_s, until=until, every_s=every_s
        )

    async def _read_on(self, route: str, held: _Route, until: int) -> list[Alarm]:
        alarms: list[Alarm] = []
        if until < held.next_second:
            return alarms
        length_s = until - held.next_second + 1
        every_s = max(int(self._settings.every_s), -(-length_s // MAX_SPANS), 1)
        sums = await self._log.read_embedding_sums(
            route, since=held.next_second, until=until, every_s=every_s
        )
        spans: dict[int, list[EmbeddingSums]] = {}
        for one in sums:
            spans.setdefault(one.second, []).append(one)
        for number, second in enumerate(sorted(spans), 1):
            alarms += held.drift.absorb(spans[second])
            if number % SPANS_AT_ONCE == 0:
                await asyncio.sleep(0)
        held.next_second = until + 1
        return alarms

    async def _compare_hours(self, route: str, held: _Route, until: int) -> None:
        """Once a day: yesterday against the days before it."""
        day = until // DAY_S
        if held.day == day:
            return
        first = day - 1 - REFERENCE_DAYS
        counts = await self._log.read_hours(route, since=first * DAY_S, until=day * DAY_S)
        days = np.zeros((REFERENCE_DAYS + 1, 24), np.int64)
        for (index, hour), count in counts.items():
            days[index, hour] = count
        *before, yesterday = days
        reference = np.array([one for one in before if one.any()])
        held.day = day
        if len(reference) >= 3 and yesterday.any():
            held.drift.hours = hour_mix(reference, yesterday)

    async def _remember(
        self, memory: DriftMemory, changes: tuple[Change, ...], revision: int
    ) -> None:
        await self._store.set(
            memory, changes, revision=revision, at_s=self._unix_s(), leader=self._holder
        )

    # ---- for the API ---------------------------------------------------------------------------

    async def statuses(self) -> dict[str, DriftStatus]:
        """By route; without the evidence where this agent does not lead."""
        kept = await self._store.all()
        return {route: self._status(one.memory) for route, one in kept.items()}

    def _status(self, memory: DriftMemory) -> DriftStatus:
        held = self._routes.get(memory.route) if self._loop.leads else None
        learnt = "learning" if memory.until_s is None else "watching"
        return DriftStatus(
            route=memory.route,
            version=memory.version,
            state="drifted" if memory.found else learnt,
            reference_since=iso(memory.since_s),
            reference_until=None if memory.until_s is None else iso(memory.until_s),
            detected={feature: iso(at_s) for feature, at_s in memory.found.items()},
            queries=held.drift.queries if held else 0,
            features=held.drift.features() if held else {},
        )

    async def acknowledge(self, route: str, by: str, reason: str) -> DriftStatus | None:
        """What queries are now is the new reference; None: nothing is known of the route.

        Raises:
            Outdated, MemoryUnavailable: try again.
        """
        kept = (await self._store.all()).get(route)
        if kept is None:
            return None
        fresh = begun(
            route, kept.memory.version, kept.memory.generation, int(self._unix_s()) - DELAY_S
        )
        change = Change(kind="drift.acknowledged", actor=by, reason=reason)
        await self._store.set(
            fresh, (change,), revision=kept.revision, at_s=self._unix_s(), leader=None
        )
        return self._status(fresh)


def _stretch_s(memory: DriftMemory, until: int) -> int:
    return max(1, (until - memory.since_s) // REFERENCE_BLOCKS)


def _until(memory: DriftMemory, until: int) -> DriftMemory:
    return DriftMemory(
        route=memory.route,
        version=memory.version,
        generation=memory.generation,
        since_s=memory.since_s,
        until_s=until,
        found=memory.found,
    )


def _change(alarm: Alarm) -> Change:
    kind = "drift.routing" if alarm.feature == ROUTING else "drift.detected"
    return Change(kind=kind, actor=AGENT_ACTOR, reason=alarm.why, detail={"feature": alarm.feature})
