"""What the spool costs the worker: one offer, and what making and writing out segments does."""

from __future__ import annotations

import asyncio
import resource
import statistics
import time
from array import array
from pathlib import Path

import uvloop

from bench.recorder.exchanges import chat, percentile, writer_in
from bench.report import Measured
from gateway.spool.writer import SpoolWriter

OFFERS = 60_000
BURST = 500
"""Offers timed one after the other; then a rest in which the next segment is made."""
LOOP_S = 6.0
LOOP_RATE_PER_S = 5_000
"""Exchanges: 11 MB/s, a segment every 200 ms."""
FSYNC_S = 0.2


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
        Measured(name="offer, median", value=median, unit="µs", goal="<= 3", holds=median <= 3),
        Measured(
            name="offer, median of the quietest tenth", value=percentile(bursts, 0.1), unit="µs"
        ),
        Measured(name="offer, p99", value=percentile(costs, 0.99), unit="µs"),
        Measured(name="offer, p99.9", value=percentile(costs, 0.999), unit="µs"),
        Measured(name="page faults in 1,000 offers", value=faults / OFFERS * 1_000, unit="faults"),
    ]


async def _lateness(writer: SpoolWriter | None) -> list[float]:
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


def lateness(directory: Path) -> list[Measured]:
    """What making segments does to the event loop beside it, and writing them out every 200 ms."""
    found = {"without a spool": uvloop.run(_lateness(None))}
    dropped = 0
    cpu_s = {}
    for name, fsync_s in (("fsync off", None), ("fsync 200ms", FSYNC_S)):
        with writer_in(directory / name, fsync_s=fsync_s) as writer:
            before = time.process_time()
            found[name] = uvloop.run(_lateness(writer))
            cpu_s[name] = time.process_time() - before
            dropped += sum(writer.dropped.values())
    ours = found.pop("fsync off")
    name = f"tick lateness at {LOOP_RATE_PER_S:,} offers/s"
    return [
        *(
            Measured(
                name=f"{name}, {label}",
                value=percentile(ours, share),
                unit="ms",
                peers={peer: percentile(late, share) for peer, late in found.items()},
            )
            for label, share in (("p99", 0.99), ("p99.9", 0.999), ("worst", 1.0))
        ),
        Measured(
            name="CPU of the worker meanwhile",
            value=cpu_s["fsync off"],
            unit="s",
            peers={"fsync 200ms": cpu_s["fsync 200ms"]},
        ),
        Measured(
            name="dropped meanwhile", value=dropped, unit="records", goal="none", holds=not dropped
        ),
    ]
