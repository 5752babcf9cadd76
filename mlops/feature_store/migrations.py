"""Bring the database to the schema this version knows."""

from __future__ import annotations

from typing import Any

from mlops.feature_store.cluster import on_cluster
from mlops.feature_store.connection import open_client, translated
from mlops.feature_store.retention import kept_again, retention_statements
from mlops.feature_store.schema import CREATE_MIGRATIONS, MIGRATION_STEPS, Migration
from mlops.feature_store.settings import ClickHouseSettings
from mlops.feature_store.tables import MIGRATIONS


async def migrate(settings: ClickHouseSettings) -> list[str]:
    """Create the database, apply the steps that are not recorded yet, and set the retention.

    Returns the names of the steps applied. Several processes may do this at once: each statement
    can be repeated, and a step is recorded only after all of it was applied. Steps of a newer
    version are left alone. A retention that is set no more is taken back.

    Raises:
        Unavailable: ClickHouse is away or refuses to make tables.
    """
    client = await open_client(settings, database=None)
    try:
        async with translated(settings, "create the database"):
            where = f" ON CLUSTER '{settings.cluster}'" if settings.cluster else ""
            await client.command(f"CREATE DATABASE IF NOT EXISTS `{settings.database}`{where}")
        client.database = settings.database
        applied = await _apply(client, settings)
        await _set_retention(client, settings)
        return applied
    finally:
        await client.close()


async def pending(settings: ClickHouseSettings) -> list[str]:
    """Names of the steps that `migrate` would apply; changes nothing.

    Raises:
        Unavailable: ClickHouse is away.
    """
    client = await open_client(settings, database=None)
    try:
        async with translated(settings, "look for the migrations"):
            found = await client.query(
                "SELECT count() FROM system.tables WHERE database = {database:String} "
                "AND name = {table:String}",
                parameters={"database": settings.database, "table": MIGRATIONS},
            )
        exists = bool(found.result_rows[0][0])
        client.database = settings.database
        done = await _done(client, settings) if exists else frozenset[int]()
        return [_label(step) for step in MIGRATION_STEPS if step.number not in done]
    finally:
        await client.close()


async def _apply(client: Any, settings: ClickHouseSettings) -> list[str]:
    async with translated(settings, "prepare the migrations"):
        for statement in _placed(CREATE_MIGRATIONS, settings):
            await client.command(statement)
    done = await _done(client, settings)
    applied: list[str] = []
    for step in MIGRATION_STEPS:
        if step.number in done:
            continue
        async with translated(settings, f"migration {step.number} ({step.name})"):
            for statement in step.statements:
                for placed in _placed(statement, settings):
                    await client.command(placed)
            await client.insert(
                MIGRATIONS, [[step.number, step.name]], column_names=["number", "name"]
            )
        applied.append(_label(step))
    return applied


async def _set_retention(client: Any, settings: ClickHouseSettings) -> None:
    beneath = "_local" if settings.cluster else ""
    suffix = f"{beneath} ON CLUSTER '{settings.cluster}'" if settings.cluster else ""
    days_of = settings.retention_days
    async with translated(settings, "set the retention"):
        found = await client.query(
            "SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase()"
        )
        made = {
            name.removesuffix(beneath): text
            for name, text in found.result_rows
            if name.endswith(beneath)
        }
        for statement in (
            *kept_again(days_of, made, suffix),
            *retention_statements(days_of, suffix),
        ):
            await client.command(statement)


def _placed(statement: str, settings: ClickHouseSettings) -> tuple[str, ...]:
    return on_cluster(statement, settings.cluster) if settings.cluster else (statement,)


async def _done(client: Any, settings: ClickHouseSettings) -> frozenset[int]:
    async with translated(settings, "read the migrations"):
        found = await client.query(f"SELECT number FROM {MIGRATIONS}")
    return frozenset(number for (number,) in found.result_rows)


def _label(step: Migration) -> str:
    return f"{step.number:04d} {step.name}"
