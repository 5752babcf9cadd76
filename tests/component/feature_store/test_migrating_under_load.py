"""A database of an earlier version is brought up to date while rows go on being inserted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import count
from typing import Any

from mlops.feature_store.connection import open_client
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.migrations import migrate
from mlops.feature_store.schema import CREATE_MIGRATIONS, MIGRATION_STEPS
from mlops.feature_store.settings import ClickHouseSettings

NOON = int(datetime(2026, 4, 1, 12, 0, tzinfo=UTC).timestamp())

INSERT = f"""INSERT INTO query_features (record_id, request_id, route, generation, arm, kind,
  ended_at, outcome, first_attempt_outcome, latency_us, events, max_event_gap_us, relevance_score,
  embedding, batch)
SELECT concat({{batch:String}}, '-', toString(number)), 'q', 'rag', 7, 'canary', 'served',
  toDateTime64({NOON}, 6, 'UTC'), 'ok', 'ok', 100, 3, 2000, 0.5, [1.0, 2.0], {{batch:String}}
FROM numbers(10)"""
"""As a recorder of the first version does it: none of the columns that came later."""


async def open_first_version(settings: ClickHouseSettings) -> Any:
    client = await open_client(settings, database=None)
    await client.command(f"CREATE DATABASE `{settings.database}`")
    client.database = settings.database
    await client.command(CREATE_MIGRATIONS)
    for step in MIGRATION_STEPS[:4]:
        for statement in step.statements:
            await client.command(statement)
        await client.insert(
            "schema_migrations", [[step.number, step.name]], column_names=["number", "name"]
        )
    return client


async def test_no_insert_is_missed_while_the_view_changes(engine_port: int) -> None:
    settings = ClickHouseSettings(host="127.0.0.1", port=engine_port, database="test_upgrade")
    client = await open_first_version(settings)
    migrated = asyncio.Event()

    async def insert() -> int:
        for number in count():
            done = migrated.is_set()
            await client.command(INSERT, parameters={"batch": f"b{number}"})
            if done:
                return number + 1
        raise AssertionError("count does not end")

    async def upgrade() -> None:
        await migrate(settings)
        migrated.set()

    inserting = asyncio.ensure_future(insert())
    try:
        await upgrade()
        batches = await inserting
        answer = await client.query(
            "SELECT sum(rows), sum(requests), sum(gap_bins[157]), sum(score_bins[100]) "
            "FROM second_counts"
        )
    finally:
        await client.close()

    ((rows, requests, with_gaps, with_scores),) = answer.result_rows
    assert (rows, requests) == (batches * 10, batches * 10)
    assert 0 < with_gaps < rows, "some were counted by the old text of the view, some by the new"
    assert with_gaps == with_scores


async def test_what_an_earlier_version_counted_reads_as_not_known(engine_port: int) -> None:
    settings = ClickHouseSettings(host="127.0.0.1", port=engine_port, database="test_upgraded")
    client = await open_first_version(settings)
    await client.command(INSERT, parameters={"batch": "old"})
    await client.command(
        "INSERT INTO tallies (worker, second, final) VALUES ('w', {at:UInt32}, 0)",
        parameters={"at": NOON},
    )
    await client.close()

    await migrate(settings)

    log = await FeatureLog.connect(settings)
    try:
        (counts,) = (await log.read_evidence("rag", since=NOON)).seconds
    finally:
        await log.close()
    assert (counts.requests, counts.refusal_known, counts.gap_bins) == (10, 0, {})
