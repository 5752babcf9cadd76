"""`make bench-store`: training data, inserts, and one look of the agent from 100 k rows up.

A real engine in a process of its own. FULL=1 adds 10,000,000 rows to the curve of the look.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import msgspec

from bench.report import Measured, write
from bench.store_fill import HOUR_S, fill_rows, fill_scores, fill_tallies, patient_client
from mlops.contracts.record import ROW_COLUMNS, Row
from mlops.feature_store import ClickHouseFeatureStore
from mlops.feature_store.batch import batch_of
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.migrations import migrate
from mlops.feature_store.schema import ROW_TYPES
from mlops.feature_store.settings import ClickHouseSettings
from mlops.local.stack import ANY_PORTS, Stack

DIMS = 384
TRAINING_ROWS = 100_000
TRAINING_GOAL_S = 3.0
MEMORY_GOAL = 3.0
LOOKS = 25
MERGE_TIMEOUT_S = 300.0
GROWTH_GOAL = 1.25
"""A look at the most rows over one at the fewest: the same, but for the noise of the machine."""
BATCH_ROWS = 2_000
BATCHES = 10
SIZES = (100_000, 1_000_000)
FULL_SIZE = 10_000_000


class Training(msgspec.Struct):
    """What the child process says of one read."""

    seconds: float
    data_bytes: int
    grown_bytes: int
    rows: int


async def fresh(settings: ClickHouseSettings, name: str) -> ClickHouseSettings:
    made = replace(settings, database=name)
    await migrate(made)
    return made


async def looks(settings: ClickHouseSettings, start: int) -> list[Measured]:
    """One look at the last two seconds of an hour, however many rows the hour has."""
    sizes = (*SIZES, FULL_SIZE) if os.environ.get("FULL") == "1" else SIZES
    async with AsyncExitStack() as opened:
        hours = [await opened.enter_async_context(Hour.filled(settings, n, start)) for n in sizes]
        await merged(settings)
        figures = curve("one look", sizes, await looks_ms(hours))
        for hour in hours:
            await fill_scores(hour.settings, hour.rows, start, delay_s=10)
        await merged(settings)
        name = "one look with 30 late scores a second"
        return [*figures, *curve(name, sizes, await looks_ms(hours))]


@dataclass(frozen=True, slots=True)
class Hour:
    """A database with an hour of rows in it, and its reader."""

    settings: ClickHouseSettings
    log: FeatureLog
    rows: int
    start: int

    @classmethod
    @asynccontextmanager
    async def filled(
        cls, settings: ClickHouseSettings, rows: int, start: int
    ) -> AsyncIterator[Hour]:
        made = await fresh(settings, f"look_{rows}")
        log = await FeatureLog.connect(made)
        try:
            filled = await fill_rows(made, rows, start, dims=0)
            await fill_tallies(log, filled, start)
            yield cls(made, log, filled, start)
        finally:
            await log.close()
        async with patient_client(made) as client:
            await client.command(f"DROP DATABASE {made.database}")

    async def look(self) -> None:
        evidence = await self.log.read_evidence("rag", since=self.start + HOUR_S - 2)
        assert sum(second.rows for second in evidence.seconds) == 2 * (self.rows // HOUR_S)


async def merged(settings: ClickHouseSettings) -> None:
    """Wait until the engine has no merges to do of what was filled: minutes of rows come in a
    second here, and its merges would be measured with the looks.
    """
    async with patient_client(settings) as client:
        async with asyncio.timeout(MERGE_TIMEOUT_S):
            while int((await client.query("SELECT count() FROM system.merges")).result_rows[0][0]):
                await asyncio.sleep(0.5)


async def looks_ms(hours: Sequence[Hour]) -> list[float]:
    """Median of each. They take turns, so that a bad minute of the machine is everybody's."""
    taken: list[list[float]] = [[] for _ in hours]
    for _ in range(LOOKS + 1):
        for hour, times in zip(hours, taken, strict=True):
            began = time.perf_counter()
            await hour.look()
            times.append((time.perf_counter() - began) * 1000)
    return [statistics.median(times[1:]) for times in taken]


def curve(name: str, sizes: Sequence[int], values: Sequence[float]) -> list[Measured]:
    """The last one is measured against the first; those between only show the way."""
    figures = [
        Measured(name=f"{name}, {rows:,} rows in the hour", value=value, unit="ms")
        for rows, value in zip(sizes, values, strict=True)
    ]
    figures[-1] = replace(
        figures[-1],
        goal=f"at most {GROWTH_GOAL:g} times that at {sizes[0]:,} rows",
        holds=values[-1] <= GROWTH_GOAL * values[0],
    )
    return figures


def make_rows(number: int, dims: int) -> list[Row]:
    rng = random.Random(number)
    began = datetime(2026, 3, 1, tzinfo=UTC)
    rows = []
    for position in range(BATCH_ROWS):
        ended = began + timedelta(milliseconds=number * 1000 + position / 2)
        rows.append(
            Row(
                record_id=f"w-{dims}-{number}-{position}", request_id=f"r{rng.getrandbits(64):x}",
                route="rag", model="m", generation=1, share_bp=0, bucket=rng.randrange(10_000),
                arm="stable", served_arm="stable", version="1", kind="served",
                started_at=ended - timedelta(milliseconds=40), ended_at=ended, status=200,
                outcome="ok", first_attempt_outcome="ok", attempts=1, latency_us=40_000,
                first_byte_us=9_000, events=0, max_event_gap_us=0, request_bytes=200,
                response_bytes=2_000, query_id=f"q{position}",
                query_text=f"what is {rng.getrandbits(128):x}", user_id=f"u{rng.randrange(999)}",
                relevance_score=rng.random(), embedding=[rng.gauss(0, 0.05) for _ in range(dims)],
            )
        )  # fmt: skip
    return rows


async def inserts(settings: ClickHouseSettings, dims: int) -> Measured:
    """Rows a second of `insert_rows`, whole: with its token, its views and its look behind.

    Beside it the client's own insert of the same columns, prepared in advance, into the same table.
    """
    settings = await fresh(settings, f"inserts_{dims}")
    batches = [make_rows(number, dims) for number in range(BATCHES)]
    prepared = [batch_of(rows, "peer") for rows in batches]
    log = await FeatureLog.connect(settings)
    try:
        began = time.perf_counter()
        for number, rows in enumerate(batches):
            await log.insert_rows(rows, token=f"w/{number}")
        ours = BATCHES * BATCH_ROWS / (time.perf_counter() - began)
        async with patient_client(settings) as client:
            began = time.perf_counter()
            for batch in prepared:
                await client.insert(
                    "query_features",
                    batch.columns,
                    column_names=ROW_COLUMNS,
                    column_type_names=list(ROW_TYPES.values()),
                    column_oriented=True,
                )
            peer = BATCHES * BATCH_ROWS / (time.perf_counter() - began)
    finally:
        await log.close()
    return Measured(
        name=f"insert of {BATCH_ROWS:,} rows at a time, {dims or 'no'} floats each",
        value=ours,
        unit="rows/s",
        goal="at least half of the client's own insert of prepared columns",
        holds=ours >= 0.5 * peer,
        peers={"clickhouse-connect": peer},
    )


def read_training_data(port: str, database: str) -> int:
    """In the child: one read, its time, and by how much this process grew."""
    settings = ClickHouseSettings(host="127.0.0.1", port=int(port), database=database)
    with ClickHouseFeatureStore(settings) as store:
        store.get_training_data(limit=100)  # imports and buffers are there before it counts
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        data = store.get_training_data(limit=TRAINING_ROWS)
        seconds = time.perf_counter() - began
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    said = Training(seconds, data.to_arrow().nbytes, grown, len(data))
    sys.stdout.write(msgspec.json.encode(said).decode())
    return 0


async def training(settings: ClickHouseSettings, start: int) -> list[Measured]:
    settings = await fresh(settings, "training")
    await fill_rows(settings, TRAINING_ROWS + HOUR_S, start, dims=DIMS)
    reads = []
    for _ in range(3):
        answer = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "bench.store", str(settings.port), settings.database],
            check=True,
            stdout=subprocess.PIPE,
        )
        reads.append(msgspec.json.decode(answer.stdout, type=Training))
    read = sorted(reads, key=lambda one: one.seconds)[1]
    assert read.rows == TRAINING_ROWS
    memory = max(one.grown_bytes / one.data_bytes for one in reads)
    what = f"get_training_data({TRAINING_ROWS:,}) with {DIMS} floats"
    return [
        Measured(
            name=what,
            value=read.seconds,
            unit="s",
            goal=f"at most {TRAINING_GOAL_S:g}",
            holds=read.seconds <= TRAINING_GOAL_S,
        ),
        Measured(
            name=f"{what}: memory over the data's",
            value=memory,
            unit="times",
            goal=f"at most {MEMORY_GOAL:g}",
            holds=memory <= MEMORY_GOAL,
        ),
        Measured(name="size of that data", value=read.data_bytes / 1e6, unit="MB"),
    ]


async def measure(settings: ClickHouseSettings) -> list[Measured]:
    start = int(time.time()) - HOUR_S
    return [
        *await training(settings, start),
        await inserts(settings, 0),
        await inserts(settings, DIMS),
        *await looks(settings, start),
    ]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="bench-store-") as name:
        stack = Stack(directory=Path(name), ports=ANY_PORTS, environ=os.environ)
        try:
            stack.start_clickhouse()
            figures = asyncio.run(measure(stack.clickhouse))
        finally:
            stack.stop()
    versions = {name: version(name) for name in ("clickhouse-connect", "chdb", "pyarrow")}
    write("store", figures, versions)
    return 0


if __name__ == "__main__":
    sys.exit(read_training_data(*sys.argv[1:]) if sys.argv[1:] else main())
