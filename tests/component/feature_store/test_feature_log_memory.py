"""What an insert leaves behind in the process that made it."""

from __future__ import annotations

import gc
import weakref

from mlops.feature_store.connection import open_client
from mlops.feature_store.inserting import insert_columns, insert_rows
from mlops.feature_store.schema import DEAD_LETTER_TYPES
from mlops.feature_store.settings import ClickHouseSettings
from mlops.feature_store.tables import DEAD_LETTERS


class Values(list[object]):
    """A list that can be watched."""


async def test_of_what_was_inserted_nothing_waits_for_the_collector_of_cycles(
    settings: ClickHouseSettings,
) -> None:
    client = await open_client(settings, database=settings.database)
    column, row = Values(["a"]), Values(["b", "rag", "bad", "{}", 0])
    columns = [column, ["rag"], ["bad"], ["{}"], [0]]
    watched = weakref.ref(column), weakref.ref(row)
    gc.collect()
    gc.disable()
    try:
        await insert_columns(client, DEAD_LETTERS, DEAD_LETTER_TYPES, columns, token="t")
        await insert_rows(client, DEAD_LETTERS, DEAD_LETTER_TYPES, [row])
        stored = (await client.query(f"SELECT record_id FROM {DEAD_LETTERS}")).result_rows
        del column, columns, row
        left = [each() for each in watched]
    finally:
        gc.enable()
        await client.close()
    assert left == [None, None]
    assert sorted(stored) == [("a",), ("b",)]
