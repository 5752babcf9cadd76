"""Damage at a worker's end, where no sequence number after it tells what is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.record import ExchangeRecord
from gateway.spool import segments
from gateway.spool.format import FRAME
from gateway.spool.writer import SpoolWriter
from mlops.contracts.tally import Tally, TallyEntry

Exchange = Callable[..., ExchangeRecord]
SECOND = 1_790_000_000


def offer(writer: SpoolWriter, exchange: Exchange, count: int) -> None:
    for number in range(count):
        assert writer.offer(exchange(f"r{number}")), writer.dropped


async def test_a_torn_tail_of_a_dead_worker_is_cut_and_counted(
    harness: Any, exchange: Exchange
) -> None:
    writer = harness.writer()
    offer(writer, exchange, 10)
    end = writer._at
    writer.close()
    path = segments.segment_path(harness.spool / writer.worker, 1)
    with path.open("r+b") as file:
        file.seek(end)
        file.write(FRAME.pack(1, 200) + b"half a record")
    async with harness.recording() as recorder:
        await harness.until(lambda: not (harness.spool / writer.worker).exists())
        assert recorder.metrics.cuts._value.get() == 1
    assert len(harness.log.request_ids()) == 10
    assert completeness(harness) == 10 / 11


@pytest.mark.parametrize("byte", [4, 40], ids=["of its length", "of its body"])
async def test_a_damaged_end_of_a_killed_worker_is_never_complete(
    harness: Any, exchange: Exchange, byte: int
) -> None:
    """No number after it tells how many are lost; the heads of what follows may."""
    writer = harness.writer()
    offer(writer, exchange, 10)
    writer.offer_tally(tally_of(writer, answered=10))
    damaged = [writer._at]
    offer(writer, exchange, 1)
    damaged.append(writer._at)
    offer(writer, exchange, 1)
    writer._preparer.close()  # no final tally, no seal: as if killed
    harness.writers.clear()
    path = segments.segment_path(harness.spool / writer.worker, 1)
    with path.open("r+b") as file:
        for start in damaged:
            file.seek(start + byte)
            file.write(b"\x07")
    harness.log.away_before = 1  # the range goes in by the second recorder
    async with harness.recording():
        await harness.until(lambda: bool(harness.log.calls))
    async with harness.recording() as recorder:
        await harness.until(lambda: not (harness.spool / writer.worker).exists())
        missing = recorder.metrics.missing.labels("0")._value.get()
    assert len(harness.log.request_ids()) == 10
    lost = 2 if byte == 40 else 1
    assert missing == lost
    assert completeness(harness) == 10 / (10 + lost)
    (last, final) = harness.log.all_tallies()[-2:]
    assert last.entries[0].dropped == {"damaged": lost}
    assert last.entries[0].route == "rag"
    assert final.final


def completeness(harness: Any) -> float:
    """Rows stored over requests answered by the tallies, whoever told them."""
    answered = sum(entry.answered for tally in harness.log.all_tallies() for entry in tally.entries)
    return len(harness.log.request_ids()) / answered


def tally_of(writer: SpoolWriter, answered: int) -> Tally:
    entry = TallyEntry(route="rag", arm="canary", generation=3, answered=answered)
    return Tally(worker=writer.worker, second=SECOND, entries=(entry,))


async def test_segments_that_a_power_cut_left_as_zeros_hold_nothing_up(
    harness: Any, exchange: Exchange
) -> None:
    """Two are ready ahead of need at any time: named, and their header not yet written out."""
    writer = harness.writer()
    offer(writer, exchange, 10)
    writer._preparer.close()
    harness.writers.clear()
    ahead = segments.segment_path(harness.spool / writer.worker, 2)
    ahead.write_bytes(bytes(writer.segment_bytes))
    async with harness.recording() as recorder:
        await harness.until(lambda: not (harness.spool / writer.worker).exists())
        assert recorder.metrics.unreadable._value.get() == 0
    assert len(harness.log.request_ids()) == 10
    assert completeness(harness) == 1.0


async def test_a_damaged_end_counts_once_however_often_the_recorder_is_started(
    harness: Any, exchange: Exchange
) -> None:
    """It is read again each time, as nothing was stored that could move the cursor past it."""
    writer = harness.writer()
    offer(writer, exchange, 10)
    async with harness.recording():
        await harness.until(lambda: len(harness.log.request_ids()) == 10)
    end = writer._at
    writer._preparer.close()
    harness.writers.clear()
    path = segments.segment_path(harness.spool / writer.worker, 1)
    with path.open("r+b") as file:
        file.seek(end)
        file.write(FRAME.pack(1, 200) + b"half a record")
    harness.log.away_before = 10**9
    for _ in range(3):
        calls = len(harness.log.calls)
        async with harness.recording():
            await harness.until(lambda calls=calls: len(harness.log.calls) > calls)
    harness.log.away_before = 0
    async with harness.recording():
        await harness.until(lambda: not (harness.spool / writer.worker).exists())
    assert completeness(harness) == 10 / 11
