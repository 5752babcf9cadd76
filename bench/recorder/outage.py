"""The same outage for three ways to log a request: the spool, an insert each, a queue in memory.

Requests come at a steady rate; in the middle the engine is killed and started again. What a request
waits for its logging is added to its answer; what is missing at the end was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import clickhouse_connect
import uvloop

from bench.recorder.engine import Engine, engine, recording
from bench.recorder.exchanges import RULES, chat, percentile, writer_in
from bench.report import Measured
from gateway.recorder.entries import entry_of
from gateway.spool.reader import Position, WorkerReader
from mlops.contracts.record import ROW_COLUMNS
from mlops.feature_store.migrations import migrate
from mlops.feature_store.schema import BATCH, ROW_TYPES, ROWS

RATE_PER_S = 200
BEFORE_S, OUTAGE_S, AFTER_S = 2.0, 4.0, 3.0
SETTLE_S = 8.0
"""After the last request, for whatever is still on its way."""
QUEUE = 500
BATCH_ROWS = 100
TRIES = 3
CALL_S = 1.0
"""What a request, or a writer of the common kind, waits for ClickHouse."""

ASYNC_INSERT: dict[str, object] = {"async_insert": 1, "wait_for_async_insert": 1}

Log = Callable[[int], Awaitable[None]]


@dataclass
class Found:
    added_s: list[float] = field(default_factory=list)
    stored: int = 0
    asked: int = 0


def outage(directory: Path) -> list[Measured]:
    """Rows lost and latency added, beside each other."""
    found: dict[str, Found] = {}
    ways = {"spool": _spooled, "insert each": _inserted, "queue": _queued}
    for name, way in ways.items():
        with engine(directory / name / "clickhouse") as running:
            uvloop.run(migrate(running.settings))
            found[name] = uvloop.run(way(directory / name / "spool", running))
    ours = found["spool"]
    lost = {name: each.asked - each.stored for name, each in found.items()}
    p99_us = {name: percentile(each.added_s, 0.99) * 1e6 for name, each in found.items()}
    what = f"{OUTAGE_S:g} s without ClickHouse at {RATE_PER_S}/s"
    return [
        Measured(
            name=f"{what}: rows lost of {ours.asked}", value=lost.pop("spool"), unit="rows",
            goal="none", holds=ours.asked == ours.stored, peers=lost,
        ),
        Measured(
            name=f"{what}: added to a request, p99", value=p99_us.pop("spool"), unit="µs",
            peers=p99_us,
        ),
        Measured(
            name=f"{what}: added to a request, median", value=median(ours.added_s) * 1e6,
            unit="µs",
            peers={
                name: median(each.added_s) * 1e6 for name, each in found.items() if name != "spool"
            },
        ),
    ]  # fmt: skip


async def _requests(running: Engine, log: Log) -> Found:
    """Every request at its time, whatever the others wait for."""
    found = Found()

    async def one(number: int) -> None:
        began = time.perf_counter()
        await log(number)
        found.added_s.append(time.perf_counter() - began)

    started = time.perf_counter()
    breaking = asyncio.create_task(_break(running))
    total = int(RATE_PER_S * (BEFORE_S + OUTAGE_S + AFTER_S))
    async with asyncio.TaskGroup() as group:
        while found.asked < total:
            group.create_task(one(found.asked))
            found.asked += 1
            await asyncio.sleep(max(0.0, started + found.asked / RATE_PER_S - time.perf_counter()))
    await breaking
    return found


async def _break(running: Engine) -> None:
    await asyncio.sleep(BEFORE_S)
    await asyncio.to_thread(running.kill)
    await asyncio.sleep(OUTAGE_S)
    await asyncio.to_thread(running.start)


async def _stored(running: Engine, expected: int) -> int:
    """Rows of different requests, once all are there or nothing more can be expected."""
    client = await _client(running)
    ends_at = time.perf_counter() + SETTLE_S
    stored = 0
    while stored < expected and time.perf_counter() < ends_at:
        answer = await client.query(f"SELECT uniqExact(request_id) FROM {ROWS}")
        stored = int(answer.result_rows[0][0])
        await asyncio.sleep(0.1)
    await client.close()
    return stored


async def _client(running: Engine) -> Any:
    settings = running.settings
    return await clickhouse_connect.get_async_client(
        host=settings.host,
        port=settings.port,
        database=settings.database,
        connect_timeout=CALL_S,
        autogenerate_session_id=False,
    )


async def _spooled(spool: Path, running: Engine) -> Found:
    record = chat()
    with writer_in(spool) as writer:

        async def log(number: int) -> None:
            record.request_id = b"request-%d" % number
            writer.offer(record)

        async with recording(spool, running.settings):
            found = await _requests(running, log)
            found.stored = await _stored(running, found.asked)
    return found


async def _inserted(spool: Path, running: Engine) -> Found:
    """`async_insert`: the engine gathers, the request waits until its row is stored."""
    row, client = _row(spool), await _client(running)

    async def log(number: int) -> None:
        with contextlib.suppress(Exception):  # a proxy answers all the same, and the row is lost
            async with asyncio.timeout(CALL_S):
                await _insert(client, [row(number)], ASYNC_INSERT)

    found = await _requests(running, log)
    await client.close()
    found.stored = await _stored(running, found.asked)
    return found


async def _queued(spool: Path, running: Engine) -> Found:
    """A bounded queue and a writer that gives up after three tries: the common kind."""
    row, client = _row(spool), await _client(running)
    queue: asyncio.Queue[tuple[object, ...]] = asyncio.Queue(QUEUE)

    async def log(number: int) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            queue.put_nowait(row(number))

    async def write() -> None:
        while True:
            batch = [await queue.get()]
            while len(batch) < BATCH_ROWS and not queue.empty():
                batch.append(queue.get_nowait())
            for attempt in range(TRIES):
                try:
                    async with asyncio.timeout(CALL_S):
                        await _insert(client, batch, {})
                    break
                except Exception:
                    await asyncio.sleep(0.1 * 2**attempt)

    writing = asyncio.create_task(write())
    found = await _requests(running, log)
    found.stored = await _stored(running, found.asked)
    writing.cancel()
    await client.close()
    return found


async def _insert(client: Any, rows: list[tuple[object, ...]], settings: dict[str, object]) -> None:
    await client.insert(
        ROWS,
        rows,
        column_names=[*ROW_COLUMNS, BATCH],
        column_type_names=[*ROW_TYPES.values(), "String"],
        settings=settings,
    )


def _row(spool: Path) -> Callable[[int], tuple[object, ...]]:
    """A row of the same exchange, made once: what it costs to make is not asked here."""
    with writer_in(spool) as writer:
        assert writer.offer(chat())
        reader = WorkerReader(spool, writer.worker)
        (record,) = reader.read(1, final=False)
        reader.close()
    row = entry_of("0-bench", Position(), record, RULES).row
    assert row is not None
    values = [getattr(row, name) for name in ROW_COLUMNS]
    at = ROW_COLUMNS.index("request_id")

    def numbered(number: int) -> tuple[object, ...]:
        return (*values[:at], f"request-{number}", *values[at + 1 :], f"batch-{number}")

    return numbered
