"""What the agent reads: closed seconds only, whole, and the same when read again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from mlops.contracts.evidence import (
    AnsweredCounts,
    Evidence,
    SecondCounts,
    count_bin,
    latency_bin,
    score_bin,
)
from mlops.contracts.record import Row
from mlops.contracts.tally import Tally, TallyEntry
from mlops.feature_store.log import Evaluation, FeatureLog
from tests.stored_rows import stored_row

NOON = datetime(2026, 4, 1, 12, 0, tzinfo=UTC)
SECOND = int(NOON.timestamp())


def row(number: int, at_s: float, **changes: Any) -> Row:
    canary = {"arm": "canary", "served_arm": "canary", "version": "1.3.0"}
    named = {"record_id": f"w-1-{number}", "request_id": f"q{number}"}
    return stored_row(**{"ended_at": NOON + timedelta(seconds=at_s), **named, **canary, **changes})


def tally(worker: str, at_s: int, answered: int = 0, *, final: bool = False) -> Tally:
    entry = TallyEntry(
        route="rag",
        arm="canary",
        generation=7,
        answered=answered,
        dropped={"spool_full": 1, "too_large": 2},
        in_flight={"1s": 4, "60s": 2, "older": 1},
    )
    return Tally(
        worker=worker,
        second=SECOND + at_s,
        entries=(entry,) if answered else (),
        final=final,
    )


async def read(log: FeatureLog, since_s: int = 0) -> Evidence:
    return await log.read_evidence("rag", since=SECOND + since_s)


async def test_without_tallies_nothing_is_closed(feature_log: FeatureLog) -> None:
    await feature_log.insert_rows([row(1, 0)], token="t")

    assert await read(feature_log) == Evidence(route="rag", since=SECOND, closed_through=SECOND - 1)
    assert (await feature_log.read_evidence("rag", since=0)).closed_through == -1


async def test_a_second_is_read_when_the_slowest_worker_has_passed_it(
    feature_log: FeatureLog,
) -> None:
    await feature_log.insert_rows([row(1, 0), row(2, 0.9), row(3, 1), row(4, 2)], token="t")
    await feature_log.insert_tallies(
        [tally("fast", 5, 1), tally("slow", 0, 2), tally("slow", 1, 1)], token="t"
    )

    evidence = await read(feature_log)

    assert evidence.closed_through == SECOND + 1
    assert [(s.second - SECOND, s.rows) for s in evidence.seconds] == [(0, 2), (1, 1)]
    assert evidence.answered == (
        AnsweredCounts(
            second=SECOND, generation=7, arm="canary", answered=2, dropped=3, long_open=1
        ),
        AnsweredCounts(
            second=SECOND + 1, generation=7, arm="canary", answered=1, dropped=3, long_open=1
        ),
    )


async def test_a_reader_may_stop_before_the_watermark(feature_log: FeatureLog) -> None:
    await feature_log.insert_rows([row(n, n) for n in range(5)], token="t")
    await feature_log.insert_tallies([tally("w", 4)], token="t")

    read_until = {
        until: await feature_log.read_evidence("rag", since=SECOND + 1, until=SECOND + until)
        for until in (0, 2, 9)
    }

    assert {k: e.closed_through - SECOND for k, e in read_until.items()} == {0: 0, 2: 2, 9: 4}
    assert {k: len(e.seconds) for k, e in read_until.items()} == {0: 0, 2: 2, 9: 4}


async def test_ended_and_silent_workers_hold_nothing_up(feature_log: FeatureLog) -> None:
    await feature_log.insert_tallies(
        [
            tally("ended", 3, final=True),
            tally("silent", 9),
            tally("late", 10),
            tally("live", 70),
        ],
        token="t",
    )

    assert (await read(feature_log)).closed_through == SECOND + 10


async def test_counts_follow_the_contract(feature_log: FeatureLog) -> None:
    cancelled = {"outcome": "cancelled", "latency_us": 9_000_000, "first_byte_us": 0}
    await feature_log.insert_rows(
        [
            row(1, 0),
            row(2, 0, outcome="client_error", first_attempt_outcome="client_error"),
            row(3, 0, outcome="ok", first_attempt_outcome="reset", latency_us=50),
            row(4, 0, outcome="timeout", first_attempt_outcome="timeout", first_byte_us=0),
            row(5, 0, first_attempt_outcome="cancelled", **cancelled),
            row(6, 0, first_attempt_outcome="reset", **cancelled),
            row(7, 0, kind="mirror", outcome="timeout", first_attempt_outcome="timeout"),
            row(8, 0, kind="override"),
            row(9, 0, route="other"),
        ],
        token="t",
    )
    await feature_log.insert_tallies([tally("w", 0)], token="t")

    (counts,) = (await read(feature_log)).seconds

    assert counts == SecondCounts(
        second=SECOND,
        generation=7,
        arm="canary",
        rows=8,
        requests=4,
        errors=2,
        client_errors=1,
        cancelled=2,
        latency_bins={0: 1, latency_bin(3_000): 3},
        first_byte_bins={latency_bin(1_000): 3},
        cancelled_bins={latency_bin(9_000_000): 2},
        request_groups={0: 4},
        error_groups={0: 2},
    )


async def test_what_answers_were_like_follows_the_contract(feature_log: FeatureLog) -> None:
    full: dict[str, Any] = {
        "events": 2, "first_event_us": 700, "max_event_gap_us": 5_000, "refused": True,
        "retrieved_count": 0, "answer_chars": 90, "completion_tokens": 20, "relevance_score": 0.5,
    }  # fmt: skip
    await feature_log.insert_rows(
        [
            row(1, 0, **full),
            row(2, 0, **{**full, "refused": False, "retrieved_count": 3, "relevance_score": 1.0}),
            row(3, 0, events=1, first_event_us=800, max_event_gap_us=9_000, bucket=9_999),
            row(4, 0, answer_chars=0, completion_tokens=0, relevance_score=0.0),
            row(5, 0, kind="mirror", **full),
            row(6, 0, outcome="cancelled", first_attempt_outcome="cancelled", **full),
        ],
        token="t",
    )
    await feature_log.insert_tallies([tally("w", 0)], token="t")

    (counts,) = (await read(feature_log)).seconds

    assert (counts.rows, counts.requests) == (6, 4)
    assert (counts.refusals, counts.refusal_known) == (1, 2)
    assert (counts.empty_retrievals, counts.retrieval_known) == (1, 2)
    assert counts.first_event_bins == {latency_bin(700): 2, latency_bin(800): 1}
    assert counts.request_groups == {0: 3, 9_999 % 16: 1}
    assert counts.gap_bins == {latency_bin(5_000): 2}
    assert counts.answer_chars_bins == {count_bin(90): 2, 0: 1}
    assert counts.completion_token_bins == {count_bin(20): 2, 0: 1}
    assert counts.score_bins == {100: 1, 199: 1, 0: 1}
    assert counts.score_bins.keys() == {score_bin(0.5), score_bin(1.0), score_bin(0.0)}


async def test_batches_arms_and_generations_add_up(feature_log: FeatureLog) -> None:
    await feature_log.insert_rows([row(1, 0), row(2, 0, generation=8)], token="a")
    await feature_log.insert_rows([row(3, 0.5), row(4, 0.5, arm="stable")], token="b")
    await feature_log.insert_tallies([tally("w", 0)], token="t")

    seconds = (await read(feature_log)).seconds

    assert [(s.generation, s.arm, s.rows, s.latency_bins) for s in seconds] == [
        (7, "canary", 2, {latency_bin(3_000): 2}),
        (7, "stable", 1, {latency_bin(3_000): 1}),
        (8, "canary", 1, {latency_bin(3_000): 1}),
    ]


def scored(number: int, at_s: float, score: float, name: str = "mrr") -> Evaluation:
    return Evaluation(
        request_id=f"q{number}",
        name=name,
        score=score,
        received_at=NOON + timedelta(seconds=at_s),
    )


async def test_a_score_counts_when_it_arrived_or_when_its_row_ended(
    feature_log: FeatureLog,
) -> None:
    await feature_log.insert_rows(
        [
            row(1, 0),
            row(2, 0, arm="stable"),
            row(3, 6),
            row(4, 0, kind="mirror"),
            row(5, 0, route="other"),
        ],
        token="t",
    )
    scores = [
        scored(1, 4.5, 0.5),
        scored(2, 4.9, 0.25),
        scored(1, 4.6, 1.0, name="clicked"),
        scored(3, 4.2, 0.125),  # before its row has ended
        scored(4, 4.2, 0.9),
        scored(5, 4.2, 0.9),
        scored(99, 4.2, 0.9),  # of no row
    ]
    await feature_log.insert_evaluations(scores, token="e")
    await feature_log.insert_tallies([tally("w", 5)], token="t5")
    before = await read(feature_log)
    await feature_log.insert_tallies([tally("w", 8)], token="t8")
    after = await read(feature_log)

    def flat(evidence: Evidence) -> list[tuple[int, str, str, int, float, float]]:
        return [
            (s.second - SECOND, s.arm, s.name, s.count, s.total, s.total_squares)
            for s in evidence.scores
        ]

    early = [
        (4, "canary", "clicked", 1, 1.0, 1.0),
        (4, "canary", "mrr", 1, 0.5, 0.25),
        (4, "stable", "mrr", 1, 0.25, 0.0625),
    ]
    assert flat(before) == early
    assert flat(after) == [*early, (6, "canary", "mrr", 1, 0.125, 0.015625)]
    assert flat(await read(feature_log, since_s=5)) == [flat(after)[-1]]


async def test_a_repeated_request_id_is_scored_once(feature_log: FeatureLog) -> None:
    first = row(1, 0, request_id="same")
    again = row(2, 2, request_id="same", arm="stable", generation=9)
    await feature_log.insert_rows([first, again], token="t")
    score = Evaluation(
        request_id="same", name="mrr", score=0.5, received_at=NOON + timedelta(seconds=3)
    )
    await feature_log.insert_evaluations([score], token="e")
    await feature_log.insert_tallies([tally("w", 4)], token="t")

    (counted,) = (await read(feature_log)).scores

    assert (counted.generation, counted.arm, counted.count) == (7, "canary", 1)
    assert counted.bins == {score_bin(0.5): 1}


async def test_reading_in_pieces_gives_what_one_read_gives(feature_log: FeatureLog) -> None:
    rows = [row(n, n * 0.37, arm=["stable", "canary"][n % 2]) for n in range(60)]
    await feature_log.insert_rows(rows, token="t")
    await feature_log.insert_evaluations(
        [scored(n, n * 0.37 + n % 5 - 1, n / 60) for n in range(60)], token="e"
    )
    pieces: list[Evidence] = []
    since = 0
    for last in (3, 4, 9, 17, 30):
        await feature_log.insert_tallies([tally("w", last, last)], token=f"t{last}")
        pieces.append(await read(feature_log, since))
        since = pieces[-1].closed_through - SECOND + 1
    whole = await read(feature_log)

    assert whole.seconds == tuple(s for piece in pieces for s in piece.seconds)
    assert whole.scores == tuple(s for piece in pieces for s in piece.scores)
    assert whole.answered == tuple(s for piece in pieces for s in piece.answered)
    assert sum(s.count for s in whole.scores) == 60


async def test_traffic_of_long_stretches_sums_what_the_seconds_say(
    feature_log: FeatureLog,
) -> None:
    rows = [row(number, at_s=number * 0.5) for number in range(20)]
    rows[3] = row(3, at_s=1.5, status=500, outcome="upstream_error",
                  first_attempt_outcome="upstream_error")  # fmt: skip
    await feature_log.insert_rows(rows, token="w:1:0-20")
    await feature_log.insert_tallies([tally("w", n, answered=2) for n in range(10)], token="t:1")
    found = await feature_log.read_traffic("rag", since=SECOND, until=SECOND + 3600, every_s=4)
    assert found.closed_through == SECOND + 9
    counted = [(one.second - SECOND, one.arm, one.requests, one.errors) for one in found.seconds]
    assert counted == [(0, "canary", 8, 1), (4, "canary", 8, 0), (8, "canary", 4, 0)]
    assert [dict(one.latency_bins) for one in found.seconds][2] == {latency_bin(3_000): 4}
    assert [one.answered for one in found.answered] == [8, 8, 4]
    until = await feature_log.read_traffic("rag", since=SECOND, until=SECOND + 5, every_s=4)
    assert [one.requests for one in until.seconds] == [8, 4]
