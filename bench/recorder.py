"""Cost of one offer to the spool, what the spool does to an event loop, rows per second stored.

`python -m bench.recorder`: about a minute, in a temporary directory, with an engine of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
import uvloop

from bench.report import Measured, write
from gateway.features.rules import AS_THEY_COME
from gateway.record import ExchangeRecord, Stamp
from gateway.recorder.app import Recorder
from gateway.recorder.entries import entry_of
from gateway.recorder.settings import RecorderSettings
from gateway.settings import SpoolSettings
from gateway.spool import segments
from gateway.spool.reader import WorkerReader
from gateway.spool.writer import SpoolWriter
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.migrations import migrate
from mlops.feature_store.settings import ClickHouseSettings

OFFERS = 60_000
BURST = 500
"""Offers timed one after the other; then a rest in which the next segment is made."""
ROWS = 20_000
LOOP_S = 6.0
LOOP_RATE_PER_S = 5_000
"""Exchanges: 11 MB/s, a segment every 400 ms."""


def chat() -> ExchangeRecord:
    """A chat completion: 2 KB in all."""
    record = ExchangeRecord()
    record.stamp = msgspec.json.encode(
        Stamp(
            route="chat",
            model="chat",
            generation=7,
            share_bp=500,
            arm="stable",
            served_arm="stable",
            version="2026-03-01",
            profile="auto",
        )
    )
    question = {"model": "m", "messages": [{"role": "user", "content": "why " * 120}]}
    answer = {
        "id": "chatcmpl-0123456789",
        "object": "chat.completion",
        "model": "m-2026",
        "choices": [{"index": 0, "message": {"content": "so " * 330}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 120, "completion_tokens": 330},
    }
    record.request_id = b"0123456789abcdef0123456789abcdef"
    record.method, record.target = b"POST", b"/v1/chat/completions"
    record.request_content_type = record.response_content_type = b"application/json"
    record.request_content_encoding = record.response_content_encoding = b""
    record.request_body = json.dumps(question).encode()
    record.response_body = json.dumps(answer).encode()
    record.request_body_cut = record.response_body_cut = False
    record.started_at_us = record.ended_at_us = time.time_ns() // 1_000
    record.latency_us, record.first_byte_us, record.max_event_gap_us = 21_000, 20_000, 0
    record.status, record.outcome, record.first_attempt_outcome, record.kind = 200, 0, 0, 0
    record.attempts, record.bucket, record.events = 1, 1_234, 1
    record.withheld, record.first_event_us, record.traceparent = 0, 0, b""
    record.request_bytes = len(record.request_body)
    record.response_bytes = len(record.response_body)
    return record


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


@contextlib.contextmanager
def writer_in(directory: Path) -> Iterator[SpoolWriter]:
    writer = SpoolWriter.open(SpoolSettings(dir=directory))
    try:
        yield writer
    finally:
        writer.close()


def offers(directory: Path) -> list[Measured]:
    """Time of single offers, the clock's own cost taken off."""
    record, clock = chat(), time.perf_counter_ns
    empty = statistics.median(-clock() + clock() for _ in range(10_000))
    costs = array("d", bytes(8 * OFFERS))  # grown, it would fault pages itself
    with writer_in(directory) as writer:
        faults = 0
        for burst in range(0, OFFERS, BURST):
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
            for number in range(burst, burst + BURST):
                started = clock()
                writer.offer(record)
                costs[number] = (clock() - started - empty) / 1_000
            faults += resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
            rest_until = clock() + 8_000_000
            while clock() < rest_until:  # awake, as a worker under load is
                time.sleep(0)
        assert not writer.dropped, writer.dropped
    median = statistics.median(costs)
    bursts = [statistics.median(costs[at : at + BURST]) for at in range(0, OFFERS, BURST)]
    return [
        Measured(
            name="offer, median", value=median, unit="µs", goal="at most 4", holds=median <= 4
        ),
        Measured(
            name="offer, median of the quietest tenth", value=percentile(bursts, 0.1), unit="µs"
        ),
        Measured(name="offer, p99", value=percentile(costs, 0.99), unit="µs"),
        Measured(name="offer, p99.9", value=percentile(costs, 0.999), unit="µs"),
        Measured(name="page faults in 1,000 offers", value=faults / OFFERS * 1_000, unit="faults"),
    ]


async def _gaps(writer: SpoolWriter | None) -> list[float]:
    """How late an event loop's 1 ms ticks come, in ms, while it offers at a steady rate."""
    record = chat()
    per_tick = LOOP_RATE_PER_S // 1_000
    late: list[float] = []
    next_at = time.perf_counter()
    ends_at = next_at + LOOP_S
    while next_at < ends_at:
        next_at += 0.001
        await asyncio.sleep(max(0.0, next_at - time.perf_counter()))
        late.append(max(0.0, time.perf_counter() - next_at) * 1_000)
        for _ in range(per_tick):
            if writer is not None:
                writer.offer(record)
    return late


def loop_gaps(directory: Path) -> list[Measured]:
    """What making segments in the background does to the event loop beside it."""
    without = uvloop.run(_gaps(None))
    with writer_in(directory) as writer:
        beside = uvloop.run(_gaps(writer))
        dropped = sum(writer.dropped.values())
    name = f"tick lateness at {LOOP_RATE_PER_S:,} offers/s"
    return [
        Measured(
            name=f"{name}, {label}",
            value=percentile(beside, share),
            unit="ms",
            peers={"without a spool": percentile(without, share)},
        )
        for label, share in (("p99", 0.99), ("p99.9", 0.999), ("worst", 1.0))
    ] + [
        Measured(
            name="dropped meanwhile", value=dropped, unit="records", goal="none", holds=not dropped
        )
    ]


def fill(directory: Path) -> str:
    """Spool `ROWS` exchanges of a worker that is gone; its name."""
    record = chat()
    with writer_in(directory) as writer:
        for number in range(ROWS):
            record.request_id = f"request-{number}".encode()
            while not writer.offer(record):
                time.sleep(0.001)
        return writer.worker


def extraction(directory: Path) -> list[Measured]:
    reader = WorkerReader(directory, fill(directory))
    started, entries, position = time.process_time(), 0, reader.position
    while records := reader.read(200, final=True):
        for record in records:
            entry_of(reader.worker, position, record, AS_THEY_COME)
        entries += len(records)
    cost_us = (time.process_time() - started) / entries * 1e6
    reader.close()
    return [Measured(name="read and extract one row, CPU", value=cost_us, unit="µs")]


async def _store(directory: Path, settings: ClickHouseSettings) -> float:
    await migrate(settings)
    worker = fill(directory)
    log = await FeatureLog.connect(settings)
    recorder = Recorder(
        RecorderSettings(spool_dir=directory),
        log,
        jitter=random.random,
        clock_s=time.monotonic,
    )
    recorder.open()
    started = time.perf_counter()
    task = asyncio.get_running_loop().create_task(recorder.run())
    while worker in segments.workers_of(directory):
        await asyncio.sleep(0.005)
    elapsed_s = time.perf_counter() - started
    recorder.stop()
    await task
    await log.close()
    return ROWS / elapsed_s


def storing(directory: Path) -> list[Measured]:
    """The whole way, beside the embedded engine on the same machine."""
    engine = subprocess.Popen(
        [sys.executable, "-W", "ignore::SyntaxWarning", "-m", "mlops.local.clickhouse",
         "--path", str(directory / "clickhouse"), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert engine.stdout is not None
        port = int(engine.stdout.readline().rsplit(":", 1)[1])
        settings = ClickHouseSettings(host="127.0.0.1", port=port)
        rate = uvloop.run(_store(directory / "spool", settings))
    finally:
        engine.terminate()
        engine.wait(20)
    return [Measured(name="stored in ClickHouse", value=rate, unit="rows/s")]


def main() -> None:
    directory = Path(tempfile.mkdtemp(prefix="bench-recorder-"))
    try:
        measures = offers(directory / "offers")
        measures += loop_gaps(directory / "loop")
        measures += extraction(directory / "extract")
        measures += storing(directory / "store")
    finally:
        shutil.rmtree(directory)
    versions = {name: version(name) for name in ("uvloop", "msgspec", "chdb")}
    write("recorder", measures, versions)


if __name__ == "__main__":
    main()
