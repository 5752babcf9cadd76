"""Every record ends up in the feature store once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.record import ExchangeRecord
from gateway.recorder import cursor as cursors
from gateway.recorder.app import SpoolTaken
from gateway.spool import segments
from mlops.contracts.tally import Tally

Exchange = Callable[..., ExchangeRecord]


def offer(writer: Any, exchange: Exchange, count: int, prefix: str = "r") -> list[str]:
    names = [f"{prefix}{number}" for number in range(count)]
    for name in names:
        assert writer.offer(exchange(name)), writer.dropped
    return names


async def test_a_row_holds_what_the_record_and_its_bodies_say(
    harness: Any, exchange: Exchange
) -> None:
    writer = harness.writer()
    assert writer.offer(exchange("r0"))
    async with harness.recording():
        await harness.until(lambda: bool(harness.log.rows))
    ((row,),) = harness.log.rows.values()
    assert row.record_id == f"{writer.worker}-1-1"
    assert (row.route, row.model, row.generation, row.share_bp) == (
        "rag", "rag_embedding_model", 3, 500,
    )  # fmt: skip
    assert (row.arm, row.served_arm, row.version, row.kind) == (
        "canary", "stable", "1.3.0", "served",
    )  # fmt: skip
    assert row.started_at == datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
    assert row.ended_at == datetime(2026, 9, 21, 14, 13, 20, 20_000, tzinfo=UTC)
    assert (row.status, row.outcome, row.first_attempt_outcome) == (200, "ok", "timeout")
    assert (row.query_text, row.user_id, row.relevance_score) == ("why", "u1", 0.5)
    assert (row.retrieved_ids, row.retrieved_scores) == (["d"], [0.9])
    assert row.response_time_ms == 20.0
    assert row.features_missing == ""


async def test_a_record_without_bodies_is_a_row_that_says_why(
    harness: Any, exchange: Exchange
) -> None:
    writer = harness.writer()
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert writer.offer(exchange("r0", withheld=1, request_body=b"", response_body=b""))
    assert writer.offer(exchange("r1", withheld=2, traceparent=trace, first_event_us=7))
    assert writer.offer(exchange("r2", traceparent=b"00-" + b"0" * 32 + trace[35:]))
    async with harness.recording():
        await harness.until(lambda: len(harness.log.request_ids()) == 3)
    unsampled, opted_out, other = (row for rows in harness.log.rows.values() for row in rows)
    assert (unsampled.features_missing, unsampled.trace_id) == ("not_sampled", "")
    assert (opted_out.features_missing, opted_out.query_text) == ("opted_out", None)
    assert opted_out.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert opted_out.first_event_us == 7
    assert (other.trace_id, other.query_text) == ("", "why")


async def test_thousands_of_records_of_two_workers_come_once_and_in_order(
    harness: Any, exchange: Exchange
) -> None:
    first, second = harness.writer(), harness.writer()
    names = offer(first, exchange, 2_500, "a") + offer(second, exchange, 1_200, "b")
    async with harness.recording():
        await harness.until(lambda: len(harness.log.request_ids()) >= len(names))
    stored = harness.log.request_ids()
    assert sorted(stored) == sorted(names)
    assert [x for x in stored if x[0] == "a"] == names[:2_500]


async def test_a_batch_is_full_at_its_rows(harness: Any, exchange: Exchange) -> None:
    offer(harness.writer(), exchange, 1_000)
    async with harness.recording(most_rows=300, batch_s=0.5):
        await harness.until(lambda: len(harness.log.request_ids()) == 1_000)
    sizes = [len(rows) for rows in harness.log.rows.values()]
    assert sizes == [400, 400, 200], "reads of 200 records until there are 300"


async def test_a_batch_with_enough_rows_waits_for_no_more(harness: Any, exchange: Exchange) -> None:
    offer(harness.writer(), exchange, 500)
    async with harness.recording(batch_rows=500, batch_s=3600.0):
        await harness.until(lambda: len(harness.log.request_ids()) == 500)
    assert len(harness.log.rows) == 1


async def test_a_batch_is_full_at_its_bytes(harness: Any, exchange: Exchange) -> None:
    writer = harness.writer()
    question = b'{"query_text": "%b"}' % (b"x" * 50_000)
    for number in range(64):
        assert writer.offer(exchange(f"r{number}", request_body=question))
    async with harness.recording(batch_bytes=400_000):
        await harness.until(lambda: len(harness.log.request_ids()) == 64)
    sizes = [len(rows) for rows in harness.log.rows.values()]
    assert sizes == [8] * 8, "the row that makes it full, and no more that was read beside it"


async def test_a_tally_comes_after_the_rows_before_it(harness: Any, exchange: Exchange) -> None:
    """And ends the batch: the agent waits for it."""
    writer = harness.writer()
    offer(writer, exchange, 5)
    assert writer.offer_tally(Tally(worker=writer.worker, second=1_790_000_000))
    async with harness.recording(batch_s=3600.0):
        await harness.until(lambda: bool(harness.log.tallies))
    kinds = [kind for kind, _, _ in harness.log.calls]
    assert kinds == ["rows", "tallies"]
    assert harness.log.all_tallies()[0].second == 1_790_000_000


@pytest.mark.parametrize("failure", ["away_before", "away_after"])
async def test_an_engine_that_is_away_gets_the_same_batches_later(
    harness: Any, exchange: Exchange, failure: str
) -> None:
    """Whether the failed insert was stored or not is unknown; the token is the same."""
    names = offer(harness.writer(), exchange, 1_500)
    setattr(harness.log, failure, 3)
    async with harness.recording() as recorder:
        await harness.until(
            lambda: (
                len(harness.log.request_ids()) == len(names)
                and recorder.metrics.retries._value.get() >= 3
            )
        )
        assert recorder.metrics.retries._value.get() == 3
    assert harness.log.request_ids() == names
    assert len({token for _, token, _ in harness.log.calls[:4]}) == 1


async def test_one_bad_row_is_found_and_the_others_are_stored(
    harness: Any, exchange: Exchange
) -> None:
    names = offer(harness.writer(), exchange, 700)
    harness.log.poisoned = {"r0", "r333", "r334", "r699"}
    async with harness.recording():
        await harness.until(
            lambda: len(harness.log.request_ids()) + len(harness.log.all_letters()) == 700
        )
    assert harness.log.request_ids() == [x for x in names if x not in harness.log.poisoned]
    letters = harness.log.all_letters()
    assert [letter.reason for letter in letters] == ["refused: a poisoned row"] * 4
    assert [letter.record_id.rsplit("-", 1)[1] for letter in letters] == ["1", "334", "335", "700"]


async def test_a_record_outside_the_schema_is_a_dead_letter_with_its_reason(
    harness: Any, exchange: Exchange
) -> None:
    writer = harness.writer()
    assert writer.offer(exchange("good"))
    assert writer.offer(exchange("bad", bucket=10_000))
    assert writer.offer(exchange("worse", stamp=b"{}"))
    assert writer.offer(exchange("cut", response_body=b'{"relev', response_body_cut=True))
    async with harness.recording():
        await harness.until(lambda: len(harness.log.all_letters()) == 2)
    bad, worse = harness.log.all_letters()
    assert (bad.route, bad.reason) == ("rag", "bucket 10000 is outside 0..9999")
    assert '"query_text":"why"' in bad.payload_excerpt
    assert (worse.route, worse.record_id) == ("", f"{writer.worker}-1-3")
    assert "missing required field" in worse.reason
    ((_, cut),) = harness.log.rows.values()
    assert (cut.request_id, cut.features_missing) == ("cut", "truncated")


async def test_acknowledged_segments_are_removed_and_a_dead_worker_s_directory(
    harness: Any, exchange: Exchange
) -> None:
    writer = harness.writer()
    directory = harness.spool / writer.worker
    async with harness.recording():
        for number in range(100):
            while not writer.offer(exchange(f"r{number}", request_body=b"q" * 200_000)):
                await asyncio.sleep(0.005)
        await harness.until(lambda: len(segments.segments_of(directory)) <= 3)
        assert directory.exists()
        writer.close()
        await harness.until(lambda: not directory.exists())
    assert len(harness.log.request_ids()) == 100


async def test_a_dead_worker_gets_a_final_tally_after_everything_else(
    harness: Any, exchange: Exchange
) -> None:
    """Past its last own tally, which it must not replace."""
    writer = harness.writer()
    offer(writer, exchange, 3)
    writer.offer_tally(Tally(worker=writer.worker, second=1_790_000_000))
    writer.close()
    async with harness.recording():
        await harness.until(lambda: not (harness.spool / writer.worker).exists())
    last = harness.log.all_tallies()[-1]
    assert last == Tally(worker=writer.worker, second=1_790_000_001, final=True)
    assert harness.log.calls[-1][0] == "tallies"


async def test_a_worker_that_said_it_was_final_is_taken_at_its_word(harness: Any) -> None:
    writer = harness.writer()
    own = Tally(worker=writer.worker, second=1_790_000_000, final=True)
    writer.offer_tally(own)
    writer.close()
    async with harness.recording():
        await harness.until(lambda: not (harness.spool / writer.worker).exists())
    assert harness.log.all_tallies() == [own]


async def test_a_second_recorder_is_refused(harness: Any) -> None:
    async with harness.recording():
        with pytest.raises(SpoolTaken, match="another recorder already reads"):
            async with harness.recording():
                raise AssertionError("not reached")


async def test_stopping_while_the_engine_is_away_keeps_the_range(
    harness: Any, exchange: Exchange
) -> None:
    """The next recorder inserts the very same batch, then the rest."""
    writer = harness.writer()
    offer(writer, exchange, 100, "a")
    harness.log.away_before = 10**9
    async with harness.recording():
        await harness.until(lambda: bool(harness.log.calls))
    cursor = cursors.load(harness.spool / writer.worker / segments.CURSOR_NAME)
    assert len(cursor.pending) == 1
    offer(writer, exchange, 50, "b")
    harness.log.away_before = 0
    async with harness.recording():
        await harness.until(lambda: len(harness.log.request_ids()) == 150)
    (token,) = {token for _, token, size in harness.log.calls if size == 100}
    assert harness.log.repeats == [token], "only what an earlier recorder may have stored"


async def test_halves_of_a_refused_batch_stay_halves_after_a_restart(
    harness: Any, exchange: Exchange
) -> None:
    """Even if the whole would now be taken: one half is stored already, under its own token."""
    names = offer(harness.writer(), exchange, 64)
    harness.log.poisoned = {"r60"}
    harness.log.dies_after = 1
    async with harness.recording():
        await harness.until(lambda: harness.log.away_before > 0)
    whole = harness.log.calls[0][1]
    first_run = len(harness.log.calls)
    assert harness.log.request_ids() == names[:32]
    harness.log.poisoned = set()
    harness.log.away_before = 0
    async with harness.recording():
        await harness.until(lambda: len(harness.log.request_ids()) == 64)
    assert harness.log.request_ids() == names
    assert whole not in {token for _, token, _ in harness.log.calls[first_run:]}


async def test_a_cursor_that_is_damaged_stops_that_worker_only(
    harness: Any, exchange: Exchange
) -> None:
    """Guessing where to go on would store records twice or not at all."""
    damaged, good = harness.writer(), harness.writer()
    offer(damaged, exchange, 1, "d")
    offer(good, exchange, 3, "g")
    (harness.spool / damaged.worker / segments.CURSOR_NAME).write_bytes(b'{"done": 7')
    async with harness.recording() as recorder:
        await harness.until(lambda: len(harness.log.request_ids()) == 3)
        await harness.until(lambda: recorder.metrics.unreadable._value.get() == 1)
    assert harness.log.request_ids() == ["g0", "g1", "g2"]


async def test_a_tally_that_is_refused_is_a_dead_letter_and_the_others_are_stored(
    harness: Any, exchange: Exchange
) -> None:
    writer = harness.writer()
    harness.log.poisoned_seconds = {11}
    for second in (10, 11, 12):
        offer(writer, exchange, 1, f"s{second}-")
        assert writer.offer_tally(Tally(worker=writer.worker, second=second))
    async with harness.recording():
        await harness.until(lambda: bool(harness.log.all_letters()))
    assert [tally.second for tally in harness.log.all_tallies()] == [10, 12]
    (letter,) = harness.log.all_letters()
    assert (letter.record_id, letter.reason) == (
        f"{writer.worker}-tally-11", "tally refused: a poisoned tally",
    )  # fmt: skip
    assert len(harness.log.request_ids()) == 3


async def test_a_spool_of_another_version_is_left_alone_and_the_others_go_on(
    harness: Any, exchange: Exchange
) -> None:
    strange, good = harness.writer(), harness.writer()
    offer(strange, exchange, 1)
    path = segments.segment_path(harness.spool / strange.worker, 1)
    descriptor = os.open(path, os.O_RDWR)
    os.pwrite(descriptor, b"\x63", 8)
    os.close(descriptor)
    offer(good, exchange, 3, "g")
    async with harness.recording() as recorder:
        await harness.until(lambda: len(harness.log.request_ids()) == 3)
        await harness.until(lambda: recorder.metrics.unreadable._value.get() == 1)
    assert path.exists()


async def test_lag_is_the_age_of_what_is_not_acknowledged(harness: Any, exchange: Exchange) -> None:
    now_us = int(datetime.now(UTC).timestamp() * 1e6)
    writer = harness.writer()
    assert writer.offer(
        exchange("r", started_at_us=now_us - 60_000_000, ended_at_us=now_us - 50_000_000)
    )
    harness.log.away_before = 10**9
    async with harness.recording() as recorder:
        await harness.until(lambda: bool(harness.log.calls))
        lag = recorder.metrics.registry.get_sample_value("spool_lag_seconds")
        assert lag is not None
        assert 50 <= lag < 90
        harness.log.away_before = 0
        await harness.until(lambda: bool(harness.log.rows))
        await harness.until(
            lambda: recorder.metrics.registry.get_sample_value("spool_lag_seconds") == 0
        )


async def test_backlogs_of_the_dead_do_not_keep_the_living_waiting(
    harness: Any, exchange: Exchange
) -> None:
    """Two at a time, whatever their number; and each of them is read to its end."""
    dead = []
    for number in range(8):
        writer = harness.writer()
        dead += offer(writer, exchange, 2_000, f"d{number}-")
        writer.close()
    living = harness.writer()
    alive = offer(living, exchange, 500, "a")
    async with harness.recording() as recorder:
        await harness.until(lambda: set(alive) <= set(harness.log.request_ids()))
        read = len(harness.log.request_ids()) - len(alive)
        assert read <= len(dead) / 2, "the living had to wait for the dead"
        backlogs = recorder.metrics.registry.get_sample_value("recorder_backlogs")
        assert backlogs is not None
        assert backlogs >= 4
        await harness.until(lambda: len(harness.log.request_ids()) == len(dead) + len(alive))
    assert sorted(harness.log.request_ids()) == sorted(dead + alive)


async def test_a_killed_worker_s_last_answers_are_told(harness: Any, exchange: Exchange) -> None:
    """Across a restart of the recorder: what is untold stands in the cursor."""
    writer = harness.writer()
    second = 1_790_000_000
    for number in range(7):
        assert writer.offer(exchange(f"r{number}", ended_at_us=second * 1_000_000 + number))
    async with harness.recording():
        await harness.until(lambda: len(harness.log.request_ids()) == 7)
    assert not harness.log.all_tallies()
    writer.close()
    async with harness.recording():
        await harness.until(lambda: not (harness.spool / writer.worker).exists())
    told, final = harness.log.all_tallies()
    assert (told.second, told.final, final.final) == (second, False, True)
    (entry,) = told.entries
    assert (entry.route, entry.arm, entry.generation, entry.answered) == ("rag", "canary", 3, 7)


async def test_what_is_acknowledged_is_wiped_in_a_segment_still_being_written(
    harness: Any, exchange: Exchange
) -> None:
    writer = harness.writer()
    offer(writer, exchange, 50)
    path = segments.segment_path(harness.spool / writer.worker, 1)
    assert b"query_text" in path.read_bytes()
    async with harness.recording():
        await harness.until(lambda: b"query_text" not in path.read_bytes())
        offer(writer, exchange, 50, "later")
        await harness.until(lambda: len(harness.log.request_ids()) == 100)
    assert len(set(harness.log.request_ids())) == 100
