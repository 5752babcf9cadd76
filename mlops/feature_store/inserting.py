"""One insert of the client: as one block, under a token, and nothing of it kept afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_ONE_BLOCK = {
    "async_insert": 0,
    "max_insert_block_size": 1_048_576,
    "min_insert_block_size_rows": 1_048_576,
    "min_insert_block_size_bytes": 0,
    "max_insert_threads": 1,
}
"""A batch goes in as one block, so that it is stored whole or not at all (per day)."""


def _with_token(token: str) -> dict[str, object]:
    """The engine takes it once, its views included, however often it is sent."""
    return {
        "insert_deduplicate": 1,
        "insert_deduplication_token": token,
        "deduplicate_blocks_in_dependent_materialized_views": 1,
    }


async def insert_columns(
    client: Any, table: str, types: Mapping[str, str], columns: Sequence[Any], *, token: str
) -> None:
    """Insert `columns`, in the order of `types` (name to type), once under `token`."""
    settings = {**_ONE_BLOCK, **_with_token(token)}
    await _insert(client, table, types, columns, column_oriented=True, settings=settings)


async def insert_rows(
    client: Any, table: str, types: Mapping[str, str], rows: Sequence[Sequence[object]]
) -> None:
    """Insert `rows`, their values in the order of `types` (name to type)."""
    await _insert(client, table, types, rows, column_oriented=False, settings=_ONE_BLOCK)


async def _insert(
    client: Any, table: str, types: Mapping[str, str], values: Sequence[Any], **options: object
) -> None:
    """The client keeps a list in an object that refers to itself, even after the insert. So it
    gets one that is emptied: else a batch stays in memory until cycles are looked for, and a
    process that has few objects besides its rows seldom looks.
    """
    given = list(values)
    try:
        await client.insert(
            table,
            given,
            column_names=list(types),
            column_type_names=list(types.values()),
            **options,
        )
    finally:
        given.clear()
