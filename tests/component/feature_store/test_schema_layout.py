"""What the engine itself says of the statements for retention, completeness, clusters and roles."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlops.contracts.tally import Tally, TallyEntry
from mlops.feature_store import AsyncClickHouseFeatureStore
from mlops.feature_store.cluster import on_cluster
from mlops.feature_store.connection import open_client
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.migrations import migrate, pending
from mlops.feature_store.offered import Defaults, row_of
from mlops.feature_store.retention import EXPIRES_BY
from mlops.feature_store.roles import role_statements
from mlops.feature_store.schema import CREATE_MIGRATIONS, MIGRATION_STEPS
from mlops.feature_store.settings import ClickHouseSettings
from mlops.feature_store.tables import COMPLETENESS


async def rows_of(settings: ClickHouseSettings, text: str, **parameters: Any) -> list[Any]:
    client = await open_client(settings, database=settings.database)
    try:
        answer = await client.query(text, parameters=parameters)
        return list(answer.result_rows)
    finally:
        await client.close()


async def test_pending_steps_are_named_without_making_them(settings: ClickHouseSettings) -> None:
    fresh = replace(settings, database=f"{settings.database}_fresh")
    assert len(await pending(fresh)) == len(MIGRATION_STEPS)
    assert await pending(fresh) == await migrate(fresh)
    assert await pending(fresh) == []


async def test_retention_is_set_on_every_table_and_can_be_changed(
    settings: ClickHouseSettings,
) -> None:
    for days in (30, 40):
        kept = replace(settings, retention_days=dict.fromkeys(EXPIRES_BY, days))
        await migrate(kept)
        made = await rows_of(
            settings,
            "SELECT name, create_table_query FROM system.tables "
            "WHERE database = {database:String} AND name IN {names:Array(String)}",
            database=settings.database,
            names=list(EXPIRES_BY),
        )
        assert len(made) == len(EXPIRES_BY)
        for name, query in made:
            assert f"toIntervalDay({days})" in query, name


async def test_a_table_that_is_named_no_more_keeps_everything_again(
    settings: ClickHouseSettings,
) -> None:
    """But for an age that somebody else gave it."""
    await migrate(replace(settings, retention_days={"tallies": 30, "evaluations": 30}))
    client = await open_client(settings, database=settings.database)
    theirs = "MODIFY TTL toDateTime(at, 'UTC') + toIntervalYear(7)"
    await client.command(f"ALTER TABLE release_events {theirs}")
    await client.close()
    for _ in range(2):
        await migrate(replace(settings, retention_days={"evaluations": 40}))
    made = await rows_of(
        settings,
        "SELECT name FROM system.tables WHERE database = {database:String} "
        "AND position(create_table_query, ' TTL ') > 0 ORDER BY name",
        database=settings.database,
    )
    assert [name for (name,) in made] == ["evaluations", "release_events"]


async def test_rows_over_their_age_go(settings: ClickHouseSettings) -> None:
    now = datetime.now(UTC)
    async with AsyncClickHouseFeatureStore(settings) as store:
        await store.store_many(
            [
                {"query_id": f"q{age}", "query_text": "x", "ended_at": now - timedelta(days=age)}
                for age in (1, 50)
            ]
        )
        await migrate(replace(settings, retention_days={"query_features": 30}))
        client = await open_client(settings, database=settings.database)
        await client.command("OPTIMIZE TABLE query_features FINAL")
        await client.close()
        assert [row["query_id"] for row in await store.get_training_data()] == ["q1"]


async def test_completeness_is_stored_over_answered(
    settings: ClickHouseSettings, feature_log: FeatureLog
) -> None:
    second = 1_790_000_000
    async with AsyncClickHouseFeatureStore(settings) as store:
        await store.store_many(
            [
                {
                    "query_id": f"q{number}",
                    "query_text": "x",
                    "route": "rag",
                    "ended_at": datetime.fromtimestamp(second + number % 5, UTC),
                }
                for number in range(9)
            ]
        )
    entry = TallyEntry(route="rag", arm="stable", generation=0, answered=12, dropped={"full": 2})
    tally = Tally(worker="w", second=second, entries=(entry,))
    for _ in range(2):
        await feature_log.insert_tallies([tally], token="t")
    (row,) = await rows_of(
        settings, f"SELECT stored, answered, dropped, completeness FROM {COMPLETENESS}"
    )
    assert row == (9, 12, 2, 0.75)


async def test_completeness_of_the_last_closed_seconds(feature_log: FeatureLog) -> None:
    second = 1_790_000_000
    assert await feature_log.read_completeness() == ()
    rows = [
        row_of(
            {"query_id": f"q{number}", "query_text": "x", "route": "rag",
             "ended_at": datetime.fromtimestamp(second + number, UTC)},
            record_id=f"r{number}", now=datetime.now(UTC), defaults=Defaults(),
        )
        for number in range(10)
    ]  # fmt: skip
    await feature_log.insert_rows(rows, token="t")
    entry = TallyEntry(route="rag", arm="stable", generation=0, answered=2, dropped={"full": 1})
    tallies = [Tally(worker="w", second=second + n, entries=(entry,)) for n in range(8)]
    await feature_log.insert_tallies(tallies, token="t")

    (last,) = await feature_log.read_completeness(seconds=4)

    assert (last.stored, last.answered, last.dropped, last.ratio) == (4, 8, 4, 0.5)


@pytest.mark.parametrize("name", ["cluster", "roles", "roles of a cluster"])
async def test_the_engine_can_read_statements_it_cannot_run(
    settings: ClickHouseSettings, name: str
) -> None:
    """The embedded engine has no Keeper and makes no roles; its parser is the real one."""
    ours = [CREATE_MIGRATIONS, *(each for step in MIGRATION_STEPS for each in step.statements)]
    statements = (
        [placed for each in ours for placed in on_cluster(each, "main")]
        if name == "cluster"
        else role_statements("rag", "main" if "cluster" in name else "")
    )
    for statement in statements:
        ((formatted,),) = await rows_of(
            settings, "SELECT formatQuery({statement:String})", statement=statement
        )
        assert formatted
