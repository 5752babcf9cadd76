"""What drift and shadow mode read: sums of embeddings, and both answers to mirrored requests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlops.contracts.evidence import count_bin
from mlops.contracts.record import Row
from mlops.feature_store.connection import open_client
from mlops.feature_store.embedding_sums import EmbeddingSample
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.settings import ClickHouseSettings
from tests.stored_rows import stored_row

NOON = datetime(2026, 4, 1, 12, 0, tzinfo=UTC)
SECOND = int(NOON.timestamp())


def row(number: int, at_s: float, **changes: Any) -> Row:
    named = {"record_id": f"w-1-{number}", "request_id": f"q{number}"}
    return stored_row(**{"ended_at": NOON + timedelta(seconds=at_s), **named, **changes})


async def command(settings: ClickHouseSettings, *statements: str) -> None:
    client = await open_client(settings, database=settings.database)
    try:
        for statement in statements:
            await client.command(statement)
    finally:
        await client.close()


async def test_embeddings_are_added_by_second_arm_and_length(feature_log: FeatureLog) -> None:
    rows = [
        row(1, 0.1, embedding=[1.0, 2.0], query_text="lease?", prompt_tokens=3),
        row(2, 0.2, embedding=[0.5, -2.0], query_text="что такое", prompt_tokens=200),
        row(3, 0.3, embedding=[1.0, 1.0], arm="canary"),
        row(4, 0.4, embedding=[1.0, 1.0, 1.0]),
        row(5, 0.5, query_text="租约 lease"),
        row(6, 1.5, embedding=[4.0, 0.0], outcome="cancelled"),
        row(7, 0.7, embedding=[9.0, 9.0], kind="mirror"),
        row(8, 0.8, embedding=[9.0, 9.0], route="other"),
        row(9, 2.0, embedding=[9.0, 9.0]),
    ]
    for _ in range(2):
        await feature_log.insert_rows(rows, token="t")

    sums = await feature_log.read_embedding_sums("rag", since=SECOND, until=SECOND + 1)

    assert [(s.second - SECOND, s.arm, s.dims, s.count, s.sum) for s in sums] == [
        (0, "canary", 2, 1, [1.0, 1.0]),
        (0, "stable", 0, 1, []),
        (0, "stable", 2, 2, [1.5, 0.0]),
        (0, "stable", 3, 1, [1.0, 1.0, 1.0]),
        (1, "stable", 2, 1, [4.0, 0.0]),
    ]
    without, two = sums[1], sums[2]
    assert two.squares == 1.0 + 4.0 + 0.25 + 4.0
    assert (two.texts, two.text_chars_total, two.text_chars_squares) == (2, 6 + 9, 36.0 + 81.0)
    assert two.text_chars_bins == {count_bin(6): 1, count_bin(9): 1}
    assert (two.prompts, two.prompt_tokens_total) == (2, 203)
    assert two.prompt_tokens_squares == 9.0 + 40_000.0
    assert two.prompt_token_bins == {count_bin(3): 1, count_bin(200): 1}
    assert two.scripts == {"latin": 1, "cyrillic": 1}
    assert without.scripts == {"east_asian": 1}


async def test_spans_gather_seconds_and_batches(feature_log: FeatureLog) -> None:
    for number in range(12):
        rows = [row(number, number / 2, embedding=[1.0, float(number)])]
        await feature_log.insert_rows(rows, token=f"t{number}")

    sums = await feature_log.read_embedding_sums(
        "rag", since=SECOND + 1, until=SECOND + 5, every_s=2
    )

    assert [(s.second - SECOND, s.count, s.sum) for s in sums] == [
        (1, 4, [4.0, 2.0 + 3 + 4 + 5]),
        (3, 4, [4.0, 6.0 + 7 + 8 + 9]),
        (5, 2, [2.0, 10.0 + 11]),
    ]


async def test_sums_that_a_crash_lost_are_made_up_for(
    feature_log: FeatureLog, settings: ClickHouseSettings
) -> None:
    rows = [row(n, n / 1000, embedding=[1.0, 0.5]) for n in range(500)]
    await feature_log.insert_rows(rows, token="t")
    await command(settings, "TRUNCATE TABLE embedding_sum_batches")

    await feature_log.insert_rows(rows, token="t")

    (sums,) = await feature_log.read_embedding_sums("rag", since=SECOND, until=SECOND)
    assert (sums.count, sums.sum) == (500, [500.0, 250.0])


async def test_a_sample_is_of_one_version_and_length_and_always_the_same(
    feature_log: FeatureLog,
) -> None:
    rows = [row(n, n / 100, embedding=[float(n), 1.0]) for n in range(200)]
    rows += [row(900, 0.5, embedding=[900.0, 1.0], version="2")]
    rows += [row(901, 0.5, embedding=[901.0, 1.0, 1.0]), row(902, 2.0, embedding=[902.0, 1.0])]
    rows += [row(903, 0.5, embedding=[903.0, 1.0], kind="mirror")]
    await feature_log.insert_rows(rows, token="t")

    def sample(limit: int) -> EmbeddingSample:
        return EmbeddingSample("rag", "1.2.0", 2, limit)

    whole = await feature_log.read_embedding_sample(sample(500), since=SECOND, until=SECOND + 1)
    assert [first for first, _ in whole] == [float(n) for n in range(200)]
    few = await feature_log.read_embedding_sample(sample(10), since=SECOND, until=SECOND + 1)
    assert few == whole[:10]


async def test_queries_for_people_are_ordered_and_of_one_arm(feature_log: FeatureLog) -> None:
    now = datetime.now(UTC)

    def made(number: int, **changes: Any) -> Row:
        ended = now - timedelta(seconds=60 - number)
        at = {"ended_at": ended, "started_at": ended - timedelta(milliseconds=number)}
        return row(number, 0, latency_us=number * 1_000, **at, **changes)

    rows = [
        made(1, query_text="one", relevance_score=0.9),
        made(2, query_text="two", relevance_score=0.1, arm="canary"),
        made(9, outcome="upstream_error", first_attempt_outcome="upstream_error", status=502),
        made(3, query_text="three", features_missing="opted_out"),
    ]
    await feature_log.insert_rows(rows, token="t")

    async def ids(order: str, arm: str = "", limit: int = 10) -> list[str]:
        found = await feature_log.read_queries("rag", order=order, arm=arm, minutes=5, limit=limit)
        return [one.request_id for one in found]

    assert await ids("newest") == ["q9", "q3", "q2", "q1"]
    assert await ids("slowest", limit=2) == ["q9", "q3"]
    assert await ids("worst") == ["q2", "q1"]
    assert await ids("failed") == ["q9"]
    assert await ids("newest", "canary") == ["q2"]
    (failed,) = await feature_log.read_queries("rag", order="failed", arm="", minutes=5, limit=1)
    assert (failed.status, failed.latency_ms, failed.query_text) == (502, 9.0, None)


async def test_hours_are_counted_by_day_from_midnight(feature_log: FeatureLog) -> None:
    rows = [row(n, n * 3_600, embedding=[1.0]) for n in range(24)]
    await feature_log.insert_rows(rows, token="t")
    midnight = SECOND - 12 * 3_600

    hours = await feature_log.read_hours("rag", since=midnight, until=midnight + 2 * 86_400)

    assert hours == {(number // 24, number % 24): 1 for number in range(12, 36)}


@pytest.mark.parametrize(("until", "every_s"), [(SECOND + 10_000, 1), (SECOND, 0)])
async def test_a_span_that_is_too_much_is_refused(
    feature_log: FeatureLog, until: int, every_s: int
) -> None:
    with pytest.raises(ValueError, match="every_s"):
        await feature_log.read_embedding_sums("rag", since=SECOND, until=until, every_s=every_s)


async def test_a_mirrored_answer_is_paired_with_the_served_one(feature_log: FeatureLog) -> None:
    mirrored: dict[str, Any] = {
        "kind": "mirror", "arm": "canary", "served_arm": "canary", "version": "1.3.0",
    }  # fmt: skip
    await feature_log.insert_rows(
        [
            row(1, 0.1, request_id="a", retrieved_ids=["x", "y"], retrieved_scores=[0.9, 0.5]),
            row(2, 1.2, request_id="a", **mirrored, outcome="timeout", latency_us=9,
                relevance_score=0.5, answer_chars=7, retrieved_ids=["y"], retrieved_scores=[0.4]),
            row(3, 0.5, request_id="b"),
            row(4, 0.5, request_id="c", **mirrored),
            row(5, 5.0, request_id="d"),
            row(6, 2.0, request_id="d", **mirrored),
            row(7, 0.3, request_id="e", generation=6),
            row(8, 0.4, request_id="e", **mirrored),
            row(9, 0.3, request_id="f"),
            row(10, 0.6, request_id="f"),
            row(11, 0.7, request_id="f", **mirrored),
        ],
        token="t",
    )  # fmt: skip

    pairs = await feature_log.read_pairs("rag", since=SECOND, until=SECOND + 4)
    later = await feature_log.read_pairs("rag", since=SECOND + 1, until=SECOND + 5)

    assert [(pair.request_id, pair.ended_at_us - SECOND * 10**6) for pair in pairs] == [
        ("f", 700_000),
        ("a", 1_200_000),
    ]
    assert [pair.request_id for pair in later] == ["a", "d"]
    pair = pairs[1]
    assert (pair.served.version, pair.mirror.version) == ("1.2.0", "1.3.0")
    assert (pair.served.arm, pair.mirror.arm) == ("stable", "canary")
    assert (pair.served.retrieved_ids, pair.served.retrieved_scores) == (["x", "y"], [0.9, 0.5])
    assert (pair.mirror.retrieved_ids, pair.mirror.retrieved_scores) == (["y"], [0.4])
    assert (pair.served.outcome, pair.mirror.outcome) == ("ok", "timeout")
    assert (pair.served.latency_us, pair.mirror.latency_us) == (3_000, 9)
    assert (pair.served.relevance_score, pair.mirror.relevance_score) == (None, 0.5)
    assert (pair.served.answer_chars, pair.mirror.answer_chars) == (None, 7)


async def test_an_id_used_again_pairs_with_the_request_nearest_in_time(
    feature_log: FeatureLog,
) -> None:
    await feature_log.insert_rows(
        [
            row(1, 0.0, request_id="a", version="far"),
            row(2, 3.0, request_id="a", version="near"),
            row(3, 3.2, request_id="a", kind="mirror"),
        ],
        token="t",
    )

    (pair,) = await feature_log.read_pairs("rag", since=SECOND, until=SECOND + 9)

    assert pair.served.version == "near"


async def test_what_was_asked_is_told_of_the_requests_named(feature_log: FeatureLog) -> None:
    await feature_log.insert_rows(
        [
            row(1, 0.0, request_id="a", query_text="how high"),
            row(2, 1.0, request_id="b", query_text=None),
            row(3, 1.0, request_id="c", query_text="not asked for"),
            row(4, 1.0, request_id="d", route="other", query_text="of another route"),
        ],
        token="t",
    )

    found = await feature_log.read_texts("rag", ["a", "b", "d"], since=SECOND, until=SECOND + 2)

    assert found == {"a": "how high", "b": None}
