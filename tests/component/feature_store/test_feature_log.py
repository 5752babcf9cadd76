"""Inserts are exactly-once by their token, and failures say who is to blame."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlops.contracts.evidence import count_bin, latency_bin
from mlops.contracts.record import ROW_COLUMNS, Row
from mlops.contracts.tally import Tally, TallyEntry
from mlops.feature_store.aggregates import bin_sql
from mlops.feature_store.connection import open_client
from mlops.feature_store.log import (
    DeadLetter,
    Evaluation,
    FeatureLog,
    Refused,
    ReleaseEvent,
    Unavailable,
)
from mlops.feature_store.migrations import migrate
from mlops.feature_store.schema import MIGRATION_STEPS, ROW_TYPES
from mlops.feature_store.settings import ClickHouseSettings
from tests.stored_rows import stored_row

NOON = datetime(2026, 4, 1, 12, 0, tzinfo=UTC)


def row(number: int, **changes: Any) -> Row:
    named = {"record_id": f"w-1-{number}", "request_id": f"q{number}", "bucket": number % 10_000}
    ended = NOON + timedelta(microseconds=number)
    return stored_row(**{"ended_at": ended, "arm": "canary", **named, **changes})


async def query(settings: ClickHouseSettings, sql: str) -> list[tuple[Any, ...]]:
    client = await open_client(settings, database=settings.database)
    try:
        return [tuple(found) for found in (await client.query(sql)).result_rows]
    finally:
        await client.close()


async def totals(settings: ClickHouseSettings) -> tuple[int, int]:
    """Rows, and rows that the counts per second stand for."""
    ((rows,),) = await query(settings, "SELECT count() FROM query_features")
    ((counted,),) = await query(settings, "SELECT sum(rows) FROM second_counts")
    return rows, counted


async def test_every_value_of_a_row_comes_back(
    feature_log: FeatureLog, settings: ClickHouseSettings
) -> None:
    full = row(
        123_457,
        endpoint="http://10.0.0.7:8000",
        first_attempt_endpoint="http://10.0.0.8:8000",
        query_id="q",
        query_text="what is 'it'?\n\0é",
        embedding=[0.5, -1.25],
        response_time_ms=1.5,
        relevance_score=0.75,
        user_id="u",
        session_id="s",
        prompt_tokens=3,
        completion_tokens=4,
        model_reported="m",
        finish_reason="stop",
        retrieved_ids=["a", "b"],
        retrieved_scores=[0.5, 0.25],
        features_missing="truncated",
    )
    await feature_log.insert_rows([full, row(1)], token="t")

    first, second = await query(
        settings, f"SELECT {', '.join(ROW_COLUMNS)} FROM query_features ORDER BY ended_at"
    )

    def comparable(values: tuple[Any, ...]) -> list[Any]:
        return [v.replace(tzinfo=None) if isinstance(v, datetime) else v for v in values]

    def given(values: Row) -> list[Any]:
        return comparable(tuple(getattr(values, name) for name in ROW_COLUMNS))

    assert comparable(first) == given(row(1))
    assert comparable(second) == given(full)


async def test_a_retry_stores_nothing_twice(
    feature_log: FeatureLog, settings: ClickHouseSettings
) -> None:
    rows = [row(number) for number in range(1_000)]
    for _ in range(3):
        await feature_log.insert_rows(rows, token="w/1")

    assert await totals(settings) == (1_000, 1_000)


async def test_a_batch_above_one_block_of_the_client_stays_whole(
    feature_log: FeatureLog, settings: ClickHouseSettings
) -> None:
    rows = [row(number, embedding=[0.1] * 100) for number in range(65_536)]
    for _ in range(2):
        await feature_log.insert_rows(rows, token="big")

    assert await totals(settings) == (65_536, 65_536)
    parts = await query(
        settings,
        "SELECT sum(level = 0) FROM system.parts WHERE active AND table = 'query_features'"
        f" AND database = '{settings.database}'",
    )
    assert parts == [(1,)]


async def test_a_retry_while_the_first_is_running_stores_nothing_twice(
    feature_log: FeatureLog, settings: ClickHouseSettings
) -> None:
    rows = [row(number) for number in range(20_000)]

    await asyncio.gather(*(feature_log.insert_rows(rows, token="w/1") for _ in range(4)))

    assert await totals(settings) == (20_000, 20_000)


async def test_a_retry_after_the_caller_gave_up_stores_nothing_twice(
    feature_log: FeatureLog, settings: ClickHouseSettings
) -> None:
    """The engine goes on with what a lost caller sent; at any moment of it."""
    rows = [row(number) for number in range(5_000)]
    for delay_ms in (1, 20, 40, 80):
        task = asyncio.ensure_future(feature_log.insert_rows(rows, token=f"w/{delay_ms}"))
        await asyncio.wait({task}, timeout=delay_ms / 1000)
        task.cancel()
        await asyncio.wait({task})
        await feature_log.insert_rows(rows, token=f"w/{delay_ms}")

    assert await totals(settings) == (20_000, 20_000)


async def test_the_same_rows_under_another_token_are_another_batch(
    feature_log: FeatureLog, settings: ClickHouseSettings
) -> None:
    await feature_log.insert_rows([row(1)], token="a")
    await feature_log.insert_rows([row(1)], token="b")

    assert await totals(settings) == (2, 2)


async def test_names_may_hold_any_character(
    feature_log: FeatureLog, settings: ClickHouseSettings
) -> None:
    odd = "it's a\\n \n\t`\"{x:String}é"
    for _ in range(2):
        await feature_log.insert_rows([row(1, route=odd), row(2, request_id=odd)], token=odd)
    score = Evaluation(request_id=odd, name=odd, score=1.0, received_at=NOON)
    await feature_log.insert_evaluations([score], token=odd)
    await feature_log.insert_tallies([Tally(worker=odd, second=int(NOON.timestamp()))], token=odd)

    evidence = await feature_log.read_evidence(odd, since=int(NOON.timestamp()))

    assert await totals(settings) == (2, 2)
    assert [second.rows for second in evidence.seconds] == [1]
    scores = (await feature_log.read_evidence("rag", since=int(NOON.timestamp()))).scores
    assert [(counts.name, counts.count) for counts in scores] == [(odd, 1)]


async def test_a_batch_of_many_days_is_stored_once(
    feature_log: FeatureLog, settings: ClickHouseSettings
) -> None:
    rows = [row(day, ended_at=NOON + timedelta(days=day)) for day in range(50)]
    for _ in range(2):
        await feature_log.insert_rows(rows, token="days")

    assert await totals(settings) == (50, 50)


async def test_missing_rows_and_counts_are_made_up_for(
    feature_log: FeatureLog, settings: ClickHouseSettings
) -> None:
    """The engine knows the token, but has lost some of what came with it."""
    rows = [row(n, ended_at=NOON + timedelta(milliseconds=n)) for n in range(3_000)]
    await feature_log.insert_rows(rows, token="w/1")
    for _ in range(2):
        client = await open_client(settings, database=settings.database)
        await client.command(
            "ALTER TABLE query_features DELETE WHERE cityHash64(record_id) % 3 = 0 "
            "SETTINGS mutations_sync = 1"
        )
        await client.command("TRUNCATE TABLE second_count_batches")
        await client.close()
        broken = await totals(settings)

        await feature_log.insert_rows(rows, token="w/1")

        assert broken[0] < 3_000
        assert broken[1] == 0
        assert await totals(settings) == (3_000, 3_000)
    assert await query(
        settings, "SELECT sum(arraySum(mapValues(latency_bins))) FROM second_counts"
    ) == [(3_000,)]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"status": 70_000}, "insert batch"),
        ({"generation": -1}, "insert batch"),
        ({"embedding": ["x"]}, "insert batch"),
        ({"record_id": 5}, "insert batch"),
        ({"ended_at": datetime(2026, 4, 1)}, "no time zone"),  # noqa: DTZ001
    ],
)
async def test_a_batch_that_does_not_fit_is_refused_and_stores_nothing(
    feature_log: FeatureLog, settings: ClickHouseSettings, change: dict[str, Any], named: str
) -> None:
    with pytest.raises(Refused, match=named):
        await feature_log.insert_rows([row(1), row(2, **change), row(3)], token="bad")

    assert await totals(settings) == (0, 0)


@pytest.mark.parametrize("token", ["", "x" * 257])
async def test_a_token_that_tells_nothing_apart_is_refused(
    feature_log: FeatureLog, token: str
) -> None:
    with pytest.raises(Refused, match="token"):
        await feature_log.insert_rows([row(1)], token=token)


async def test_an_engine_that_is_away_is_unavailable(unused_tcp_port: int) -> None:
    with pytest.raises(Unavailable, match=f"127.0.0.1:{unused_tcp_port}") as raised:
        await FeatureLog.connect(ClickHouseSettings(host="127.0.0.1", port=unused_tcp_port))

    assert raised.value.__cause__ is not None


async def test_a_database_without_tables_is_unavailable_not_refused(engine_port: int) -> None:
    bare = ClickHouseSettings(host="127.0.0.1", port=engine_port, database="default")
    log = await FeatureLog.connect(bare)
    try:
        with pytest.raises(Unavailable, match="query_features"):
            await log.insert_rows([row(1)], token="t")
    finally:
        await log.close()


async def test_migrating_again_or_at_once_changes_nothing(engine_port: int) -> None:
    fresh = ClickHouseSettings(host="127.0.0.1", port=engine_port, database="test_migrations")

    first = await asyncio.gather(*(migrate(fresh) for _ in range(4)))

    assert any(len(names) == len(MIGRATION_STEPS) for names in first)
    assert await migrate(fresh) == []
    log = await FeatureLog.connect(fresh)
    await log.insert_rows([row(1)], token="t")
    await log.close()
    assert await totals(fresh) == (1, 1)


async def test_the_table_has_the_columns_of_a_row(settings: ClickHouseSettings) -> None:
    found = await query(
        settings,
        "SELECT name, type FROM system.columns WHERE table = 'query_features' "
        f"AND database = '{settings.database}' ORDER BY position",
    )

    assert found == [*ROW_TYPES.items(), ("batch", "String")]


@pytest.mark.parametrize(("python", "first_edge"), [(latency_bin, 100), (count_bin, 1)])
async def test_bins_in_the_engine_are_bins_in_python(
    settings: ClickHouseSettings, python: Callable[[float], int], first_edge: int
) -> None:
    edges = [first_edge * 1.1 ** (k / 5) for k in range(820)]
    values = sorted(
        {0, 1, 99, 100, 101, 10**12, 2**63}
        | {max(0, int(edge) + step) for edge in edges for step in (-1, 0, 1)}
        | set(range(2_000))
        | {int(100 * 1.0003**k) for k in range(60_000)}
    )
    sql = f"SELECT groupArray({bin_sql('v', first_edge)}) FROM (SELECT arrayJoin({{values}}) AS v)"
    client = await open_client(settings, database=settings.database)
    try:
        for start in range(0, len(values), 5_000):
            part = values[start : start + 5_000]
            text = sql.replace("{values}", f"CAST({part}, 'Array(UInt64)')")
            ((bins,),) = (await client.query(text)).result_rows
            assert list(bins) == [python(value) for value in part]
    finally:
        await client.close()


async def test_other_entries_are_there_once_after_a_retry(
    feature_log: FeatureLog, settings: ClickHouseSettings
) -> None:
    entry = TallyEntry(
        route="rag", arm="stable", generation=1, answered=5, dropped={"spool_full": 1},
        in_flight={"1s": 2},
    )  # fmt: skip
    tallies = [
        Tally(worker="w", second=1_000, entries=(entry, entry)),
        Tally(worker="w", second=1_001),
    ]
    letter = DeadLetter(record_id="w-1-1", route="rag", reason="bad", payload_excerpt="{", at=NOON)
    score = Evaluation(request_id="q1", name="mrr", score=0.5, received_at=NOON)
    event = ReleaseEvent(
        release_id="r1", route="rag", at=NOON, kind="release.stepped", actor="agent",
        from_share_bp=0, to_share_bp=500, reason="started",
    )  # fmt: skip
    for _ in range(2):
        await feature_log.insert_tallies(tallies, token="t")
        await feature_log.insert_dead_letters([letter], token="d")
        await feature_log.insert_evaluations([score, score], token="e")
        await feature_log.insert_release_event(event)

    counts = {
        table: (await query(settings, f"SELECT count() FROM {table} FINAL"))[0][0]
        for table in ("tallies", "dead_letters", "evaluations", "release_events")
    }
    assert counts == {"tallies": 2, "dead_letters": 1, "evaluations": 2, "release_events": 1}
    (stored,) = await query(
        settings, "SELECT answered, dropped, in_flight FROM tallies FINAL WHERE second = 1000"
    )
    assert stored == ([5, 5], [{"spool_full": 1}] * 2, [{"1s": 2}] * 2)


async def test_a_batch_repeated_after_its_token_is_forgotten_is_stored_once(
    feature_log: FeatureLog, settings: ClickHouseSettings
) -> None:
    """A recorder that was down while others inserted: the engine remembers so many tokens only."""
    client = await open_client(settings, database=settings.database)
    try:
        await client.command(
            "ALTER TABLE query_features MODIFY SETTING non_replicated_deduplication_window = 1"
        )
    finally:
        await client.close()
    first = [row(number) for number in range(5)]
    await feature_log.insert_rows(first, token="w1/1")
    for number in range(5, 8):
        await feature_log.insert_rows([row(number)], token=f"w2/{number}")
    await feature_log.insert_rows(first, token="w1/1", is_repeat=True)
    assert await totals(settings) == (8, 8)
    await feature_log.insert_rows([row(9)], token="w1/2", is_repeat=True)
    assert await totals(settings) == (9, 9)
