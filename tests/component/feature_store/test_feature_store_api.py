"""The feature store as a data scientist calls it, against the real engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlops.contracts.tally import Tally
from mlops.feature_store import AsyncClickHouseFeatureStore, ClickHouseFeatureStore
from mlops.feature_store.entries import DeadLetter, Evaluation
from mlops.feature_store.errors import Unavailable
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.offered import InvalidFeatures
from mlops.feature_store.settings import ClickHouseSettings
from mlops.feature_store.training_data import COLUMNS
from tests.stored_rows import stored_row

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
QUERY = {
    "query_id": "q123",
    "query_text": "What is machine learning?",
    "embedding": [0.1, 0.2, 0.3],
    "response_time_ms": 150,
    "relevance_score": 0.85,
    "user_id": "user456",
    "session_id": "session789",
}


def query(number: int, **more: object) -> dict[str, object]:
    return {"query_id": f"q{number}", "query_text": f"text {number}", **more}


@pytest.fixture
def store(settings: ClickHouseSettings) -> Any:
    with ClickHouseFeatureStore(settings, clock=lambda: NOW) as store:
        yield store


def test_a_query_stored_comes_back_whole(store: ClickHouseFeatureStore) -> None:
    store.store_query_features(QUERY)
    data = store.get_training_data(limit=10_000)
    assert len(data) == 1
    (row,) = data
    assert set(row) == set(COLUMNS)
    assert {name: row[name] for name in QUERY if name != "embedding"} == {
        name: value for name, value in QUERY.items() if name != "embedding"
    }
    assert row["embedding"] == pytest.approx([0.1, 0.2, 0.3], rel=1e-6)
    assert row["score"] == 0.85
    frame = data.to_pandas()
    assert list(frame["query_id"]) == ["q123"]
    assert data.to_arrow().num_rows == 1


def test_every_problem_is_named_and_nothing_is_stored(store: ClickHouseFeatureStore) -> None:
    with pytest.raises(InvalidFeatures) as caught:
        store.store_many([query(1), {"query_text": 5, "relevance_score": 2.0, "user": "x"}])
    problems = "\n".join(caught.value.problems)
    for expected in (
        "query 1: query_text: expected str, got int",
        "query 1: 'user' is not a feature",
        "query 1: query_id is missing",
        "query 1: relevance_score 2.0 is outside 0..1",
    ):
        assert expected in problems
    assert "query 0" not in problems
    assert len(store.get_training_data()) == 0


def test_the_newest_are_taken_and_filters_narrow(store: ClickHouseFeatureStore) -> None:
    store.store_many(
        [
            query(
                number,
                ended_at=NOW - timedelta(minutes=number),
                route="rag" if number % 2 else "other",
                version=f"1.{number % 3}.0",
                relevance_score=number / 20,
            )
            for number in range(20)
        ]
    )
    assert [row["query_id"] for row in store.get_training_data(3)] == ["q2", "q1", "q0"]
    by_route = store.get_training_data(route="rag", version="1.1.0")
    assert {row["query_id"] for row in by_route} == {"q1", "q7", "q13", "q19"}
    scored = store.get_training_data(minimum_score=0.75)
    assert {row["query_id"] for row in scored} == {f"q{number}" for number in range(15, 20)}
    span = store.get_training_data(
        since=NOW - timedelta(minutes=5), until=NOW - timedelta(minutes=3)
    )
    assert [row["query_id"] for row in span] == ["q5", "q4"]


def test_a_sample_is_the_same_whenever_it_is_drawn(store: ClickHouseFeatureStore) -> None:
    store.store_many([query(number) for number in range(500)])
    first = [row["query_id"] for row in store.get_training_data(50, seed=7)]
    assert first == [row["query_id"] for row in store.get_training_data(50, seed=7)]
    assert len(first) == 50
    assert set(first) != {row["query_id"] for row in store.get_training_data(50, seed=8)}
    larger = {row["query_id"] for row in store.get_training_data(100, seed=7)}
    assert set(first) < larger


async def test_nothing_from_the_future_is_read(
    settings: ClickHouseSettings, feature_log: FeatureLog
) -> None:
    """A row that ended later, or a score that arrived later, is not there yet."""
    async with AsyncClickHouseFeatureStore(settings, clock=lambda: NOW) as store:
        await store.store_many(
            [
                query(1, ended_at=NOW - timedelta(minutes=40), relevance_score=0.5),
                query(2, ended_at=NOW - timedelta(minutes=10), relevance_score=0.5),
            ]
        )
        for minutes_ago, score in ((30, 0.9), (20, 0.1)):
            await feature_log.insert_evaluations(
                [
                    Evaluation(
                        request_id="q1",
                        name="click",
                        score=score,
                        received_at=NOW - timedelta(minutes=minutes_ago),
                    )
                ],
                token=f"t{minutes_ago}",
            )

        async def scores(minutes_ago: int, name: str | None = "click") -> dict[str, float]:
            data = await store.get_training_data(
                as_of=NOW - timedelta(minutes=minutes_ago), evaluation=name
            )
            return {row["query_id"]: row["score"] for row in data}

        assert await scores(35) == {"q1": 0.5}
        assert await scores(25) == {"q1": 0.9}
        assert await scores(0) == {"q1": 0.1, "q2": 0.5}
        assert await scores(0, None) == {"q1": 0.5, "q2": 0.5}


def test_performance_outlives_the_rows(store: ClickHouseFeatureStore) -> None:
    """From the rows while they are there, from the kept hours afterwards: the same numbers."""
    yesterday = NOW - timedelta(days=1)
    store.store_many(
        [
            query(
                number,
                ended_at=yesterday + timedelta(seconds=number),
                version="1.0.0",
                model="m",
                response_time_ms=10.0 + number,
                relevance_score=0.5,
                status=500 if number < 10 else 200,
            )
            for number in range(100)
        ]
    )
    before = store.get_model_performance_history("m", days=30)
    (day,) = before
    assert (day.day, day.version, day.arm) == (yesterday.date(), "1.0.0", "stable")
    assert (day.requests, day.errors, day.error_rate) == (100, 10, 0.1)
    assert day.mean_relevance_score == 0.5
    assert day.latency_p50_ms == pytest.approx(60, rel=0.03)
    assert day.latency_p99_ms == pytest.approx(109, rel=0.03)
    hour = yesterday.replace(minute=0)
    for _ in range(2):  # a repetition replaces, it does not add
        store.refresh_model_performance(hour, hour + timedelta(hours=2))
    assert store.get_model_performance_history("m", days=30) == before
    store.wait_for(_forget_rows(store))
    assert store.get_model_performance_history("m", days=30) == before
    assert store.get_model_performance_history("other", days=30) == []


async def _forget_rows(store: ClickHouseFeatureStore) -> None:
    client = await store.store._connected()
    await client.command("TRUNCATE TABLE query_features")


def test_statistics_say_how_features_lie(store: ClickHouseFeatureStore) -> None:
    store.store_many([query(number, relevance_score=number / 100) for number in range(101)])
    statistics = store.feature_statistics(route="direct")
    score = statistics["relevance_score"]
    assert (score.rows, score.present, score.minimum, score.maximum) == (101, 101, 0.0, 1.0)
    assert score.mean == pytest.approx(0.5)
    assert score.p50 == pytest.approx(0.5, abs=0.02)
    assert statistics["prompt_tokens"].present == 0
    assert statistics["prompt_tokens"].mean is None
    assert statistics["retrieved_count"].present == 0, "nothing was said of a retrieval"
    assert store.feature_statistics(route="none")["relevance_score"].rows == 0


async def test_retrievals_are_counted_where_one_is_told_of(
    settings: ClickHouseSettings, feature_log: FeatureLog
) -> None:
    """An empty one is a retrieval; of what only ids are known, as rows from before, those are."""
    told: list[dict[str, Any]] = [
        {"retrieved_count": 0},
        {"retrieved_count": 30, "retrieved_ids": ["a"]},
        {"retrieved_ids": ["a", "b", "c"]},
        {},
    ]
    rows = [
        stored_row(record_id=f"w-1-{number}", route="rag", ended_at=NOW, **changes)
        for number, changes in enumerate(told)
    ]
    await feature_log.insert_rows(rows, token="t")
    async with AsyncClickHouseFeatureStore(settings, clock=lambda: NOW) as store:
        found = (await store.feature_statistics("rag"))["retrieved_count"]
    assert (found.rows, found.present, found.mean, found.maximum) == (4, 3, 11.0, 30.0)


async def test_a_late_score_reaches_the_evidence(
    settings: ClickHouseSettings, feature_log: FeatureLog
) -> None:
    async with AsyncClickHouseFeatureStore(settings, clock=lambda: NOW) as store:
        await store.store_many([query(1, request_id="r1", route="rag")])
        await store.record_evaluation("r1", "click", 0.75)
        with pytest.raises(ValueError, match=r"outside 0\.\.1"):
            await store.record_evaluation("r1", "click", 1.5)
        data = await store.get_training_data(evaluation="click", route="rag")
        assert [each["score"] for each in data] == [0.75]
    second = int(NOW.timestamp())
    tally = Tally(worker="w", second=second, entries=(), final=True)
    await feature_log.insert_tallies([tally], token="tally")
    evidence = await feature_log.read_evidence("rag", since=second - 60)
    assert [(score.name, score.count, score.total) for score in evidence.scores] == [
        ("click", 1, 0.75)
    ]


async def test_nothing_of_an_erased_user_is_left(
    settings: ClickHouseSettings, feature_log: FeatureLog
) -> None:
    letters = [
        DeadLetter(record_id=f"d{user}", route="rag", reason="x", payload_excerpt=user, at=NOW)
        for user in ("user-1", "user-2")
    ]
    await feature_log.insert_dead_letters(letters, token="letters")
    async with AsyncClickHouseFeatureStore(settings, clock=lambda: NOW) as store:
        await store.store_many(
            [query(number, user_id=f"user-{number % 2 + 1}") for number in range(10)]
        )
        for number in range(10):
            await store.record_evaluation(f"q{number}", "click", 0.5)
        erased = await store.erase_user("user-1")
        assert (erased.rows, erased.evaluations, erased.dead_letters) == (5, 5, 1)
        again = await store.erase_user("user-1")
        assert (again.rows, again.evaluations, again.dead_letters) == (0, 0, 0)
        data = await store.get_training_data(evaluation="click")
        assert {row["user_id"] for row in data} == {"user-2"}
        kept = await store.erase_user("user-2")
        assert (kept.rows, kept.evaluations, kept.dead_letters) == (5, 5, 1)
        with pytest.raises(ValueError, match="user_id is empty"):
            await store.erase_user("")


def test_an_engine_that_is_away_is_said_so() -> None:
    settings = ClickHouseSettings(host="127.0.0.1", port=1)
    with ClickHouseFeatureStore(settings) as store, pytest.raises(Unavailable, match=r":1\b"):
        store.get_training_data()
    with pytest.raises(RuntimeError, match="closed"):
        store.get_training_data()
