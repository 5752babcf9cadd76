"""Bring the database to the schema this version knows."""

from __future__ import annotations

from typing import Any

from mlops.feature_store.connection import open_client, translated
from mlops.feature_store.schema import CREATE_MIGRATIONS, MIGRATION_STEPS, MIGRATIONS
from mlops.feature_store.settings import ClickHouseSettings


async def migrate(settings: ClickHouseSettings) -> list[str]:
    """Create the database and apply the steps that are not recorded yet; returns their names.

    Several processes may do this at once: each statement can be repeated, and a step is recorded
    only after all of it was applied. Steps of a newer version are left alone.

    Raises:
        Unavailable: ClickHouse is away or refuses to make tables.
    """
    client = await open_client(settings, database=None)
    try:
        async with translated(settings, "create the database"):
            await client.command(f"CREATE DATABASE IF NOT EXISTS `{settings.database}`")
        client.database = settings.database
        return await _apply(client, settings)
    finally:
        await client.close()


async def _apply(client: Any, settings: ClickHouseSettings) -> list[str]:
    async with translated(settings, "read the migrations"):
        await client.command(CREATE_MIGRATIONS)
        found = await client.query(f"SELECT number FROM {MIGRATIONS}")
    done = {number for (number,) in found.result_rows}
    applied: list[str] = []
    for step in MIGRATION_STEPS:
        if step.number in done:
            continue
        async with translated(settings, f"migration {step.number} ({step.name})"):
            for statement in step.statements:
                await client.command(statement)
            await client.insert(
                MIGRATIONS, [[step.number, step.name]], column_names=["number", "name"]
            )
        applied.append(f"{step.number:04d} {step.name}")
    return applied
