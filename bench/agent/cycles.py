"""CPU of one agent cycle, from 10^4 to 10^8 requests in the last hour.

A real engine, a real gateway and a real database; the loop runs in this process, so its CPU is this
process's. The hour lies in the table of counts per second, as the recorder would have left it.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import clickhouse_connect
import numpy as np
from msgspec.structs import replace

from agent.discovery import Discovery
from agent.gatekeeper import Gatekeeper
from agent.journal import Journal
from agent.loop import Loop, Runtime
from agent.memory import Memory
from agent.metrics import Metrics
from agent.observer import Observer
from agent.policy import Policy
from agent.policy_file import to_document
from agent.providers import Providers
from agent.publisher import Gateways
from agent.release import Change, Release
from agent.rules import Rules
from agent.settings import GatewaySettings
from bench.report import Measured
from mlops.contracts.api import AGENT_ACTOR
from mlops.contracts.evidence import latency_bin
from mlops.contracts.plan import Slot
from mlops.contracts.tally import Tally, TallyEntry
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.tables import SECOND_BATCHES
from mlops.local.stack import Stack

SCALES = (10**4, 10**6, 10**8)
"""Requests in the hour."""
HOUR_S = 3600
CYCLES = 20
AHEAD_S = CYCLES + 5
"""Seconds after the hour that have counts too: each cycle finds one more that has closed."""
GENERATION = 2
CANARY_SHARE_BP = 1000
GOAL_MS = 50.0
ERROR_RATE = 0.005
SAMPLE = 20_000
"""Latencies that the histograms are drawn from."""
POLICY = Policy(dwell_s=1e6)
"""The weight stays: a step in the middle would be another cycle."""


def route_of(scale: int) -> str:
    return f"rag-{scale}"


def routes() -> list[dict[str, object]]:
    """One for each scale, as in the gateway's file."""
    return [
        {
            "name": route_of(scale),
            "match": {"prefix": f"/{scale}/"},
            "stable": {"version": "a", "endpoints": ["http://127.0.0.1:9"]},
        }
        for scale in SCALES
    ]


class Hour:
    """Counts per second of one route: Poisson arrivals, lognormal latencies."""

    def __init__(self, scale: int) -> None:
        self._random = np.random.default_rng(scale)
        self._scale = scale
        latencies = 40_000 * np.exp(self._random.normal(0, 0.4, SAMPLE))
        found = Counter(latency_bin(one) for one in latencies)
        self._bins = np.array(sorted(found))
        self._weights = np.array([found[index] for index in self._bins]) / SAMPLE
        self.counts: dict[int, dict[str, int]] = {}

    def rows(self, start: int, seconds: int) -> list[list[Any]]:
        """For `COLUMNS`; notes what the tallies are to say."""
        found = []
        for second in range(start, start + seconds):
            self.counts[second] = {}
            for arm, share in (("canary", CANARY_SHARE_BP), ("stable", 10_000 - CANARY_SHARE_BP)):
                mean = self._scale / HOUR_S * share / 10_000
                count = int(self._random.poisson(mean))
                self.counts[second][arm] = count
                if count:
                    found.append([route_of(self._scale), second, GENERATION, arm, f"b{second}",
                                  *self._drawn(count)])  # fmt: skip
        return found

    def _drawn(self, count: int) -> list[Any]:
        errors = int(self._random.binomial(count, ERROR_RATE))
        drawn = self._random.multinomial(count, self._weights)
        bins = {int(i): int(n) for i, n in zip(self._bins, drawn, strict=True) if n}
        groups = self._random.multinomial(count, [1 / 16] * 16)
        return [count, count, errors, bins, bins, dict(enumerate(groups.tolist()))]

    def entry(self, second: int) -> list[TallyEntry]:
        route = route_of(self._scale)
        return [
            TallyEntry(route=route, arm=arm, generation=GENERATION, answered=count)
            for arm, count in self.counts[second].items()
        ]


COLUMNS = ("route", "second", "generation", "arm", "batch", "rows", "requests", "errors",
           "latency_bins", "first_byte_bins", "request_groups")  # fmt: skip


async def cpu_ms(run: Callable[[], Awaitable[object]]) -> float:
    """CPU of this process while `run` runs; the engine and the gateway are other processes."""
    before = time.process_time()
    await run()
    return (time.process_time() - before) * 1000


class Bench:
    """One release of one route in the middle of its hour, and loops that look after it."""

    def __init__(
        self, stack: Stack, log: FeatureLog, memory: Memory, hours: list[Hour], now: int
    ) -> None:
        self._stack = stack
        self._log = log
        self._memory = memory
        self._hours = hours
        self.start = now - HOUR_S
        self.now = now
        token = stack.secrets["GATEWAY_OPERATOR_TOKEN"]
        admin = GatewaySettings(url=stack.addresses["admin"], token=token)
        discovery = Discovery([admin], actor=AGENT_ACTOR, now_s=time.monotonic)
        self.gateways = Gateways(discovery, time.monotonic)

    def loop(self) -> tuple[Loop, Journal]:
        """As after a restart: nothing is known but what the database holds."""

        def unix_s() -> float:
            return float(self.now)

        journal = Journal(self._memory, 0)
        rules = Rules(guards_embedding_space=False)
        loop = Loop(
            self._memory,
            self.gateways,
            Observer(self._log, int),
            journal,
            Gatekeeper(rules, Providers(self._stack.clickhouse), unix_s),
            metrics=Metrics(),
            runtime=Runtime("bench", "bench", time.monotonic, unix_s),
        )
        return loop, journal

    async def fill(self) -> None:
        """The hour of every route, and the seconds after it."""
        settings = self._stack.clickhouse
        client = await clickhouse_connect.get_async_client(
            host=settings.host, port=settings.port, database=settings.database
        )
        try:
            for hour in self._hours:
                rows = hour.rows(self.start, HOUR_S + AHEAD_S)
                await client.insert(SECOND_BATCHES, rows, column_names=COLUMNS)
        finally:
            await client.close()
        tallies = [self._tally(self.start + second) for second in range(HOUR_S)]
        await self._log.insert_tallies(tallies, token="tallies")

    def _tally(self, second: int) -> Tally:
        entries = tuple(entry for hour in self._hours for entry in hour.entry(second))
        return Tally(worker="bench", second=second, entries=entries)

    async def remember_release(self, scale: int) -> str:
        release = Release(
            id=f"rel-{scale}",
            route=route_of(scale),
            candidate=Slot(version="b", endpoints=("http://127.0.0.1:9",)),
            policy=to_document(POLICY),
            reason="bench",
            started_by="bench",
            started_at_s=float(self.start),
        )
        change = Change(kind="release.started", actor="bench", reason="bench")
        await self._memory.create(release, change, float(self.start))
        loop, _ = self.loop()
        await loop.cycle()
        kept = await self._memory.get(release.id)
        assert kept is not None
        assert kept.release.plan is not None, "the first cycle begins the release"
        shares = {GENERATION: CANARY_SHARE_BP}
        begun = replace(kept.release, shares=shares, in_force_since_s=float(self.start))
        await self._memory.change(
            begun, None, revision=kept.revision, at_s=float(self.now), leader=None
        )
        return release.id

    async def next_second(self) -> None:
        await self._log.insert_tallies([self._tally(self.now)], token=f"tally-{self.now}")
        self.now += 1


async def measure(stack: Stack, directory: Path) -> list[Measured]:
    """Each scale for itself, with a database of its own: its release is the only one."""
    found: list[Measured] = []
    now = int(time.time())
    for scale in SCALES:
        log = await FeatureLog.connect(stack.clickhouse)
        memory = Memory.open(f"sqlite:///{directory / f'agent-{scale}.sqlite'}")
        bench = Bench(stack, log, memory, [Hour(scale)], now)
        try:
            await bench.fill()
            found += await _measure(bench, scale)
            # Its seconds went by faster than real ones: behind them, the log would be ahead of us.
            now = max(int(time.time()), bench.now)
        finally:
            await bench.gateways.close()
            await log.close()
            await memory.close()
    return found


async def _measure(bench: Bench, scale: int) -> list[Measured]:
    release_id = await bench.remember_release(scale)
    loop, journal = bench.loop()
    rebuild_ms = [await cpu_ms(loop.cycle)]
    while loop.cycles[release_id].picture.closed_through_s < bench.now - 1:
        rebuild_ms.append(await cpu_ms(loop.cycle))
    judged = loop.cycles[release_id].canary_requests

    async def cycle() -> None:
        await loop.cycle()
        await journal.follow()

    cycles_ms = []
    for _ in range(CYCLES):
        await bench.next_second()
        cycles_ms.append(await cpu_ms(cycle))
    assert loop.cycles[release_id].canary_requests > judged, "a cycle read nothing new"
    hour = f"10^{len(str(scale)) - 1} requests an hour"
    name = f"{hour}: CPU of a cycle"
    median_ms = statistics.median(cycles_ms)
    return [
        Measured(
            name=f"{name}, median",
            value=median_ms,
            unit="ms",
            goal=f"at most {GOAL_MS:g}",
            holds=median_ms <= GOAL_MS,
        ),
        Measured(
            name=f"{name}, greatest",
            value=max(cycles_ms),
            unit="ms",
            goal=f"at most {GOAL_MS:g}",
            holds=max(cycles_ms) <= GOAL_MS,
        ),
        Measured(name=f"{hour}: CPU to judge the hour again", value=sum(rebuild_ms), unit="ms"),
    ]
