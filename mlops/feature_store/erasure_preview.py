"""What an erasure would take, counted without writing anything: for `erase --dry-run`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from mlops.feature_store.archive import Archive
from mlops.feature_store.connection import translated
from mlops.feature_store.erasure import (
    ERASED_BY,
    LETTER,
    NAMES_USER,
    OF_USER,
    RECORD,
    REQUEST,
    Erased,
    Told,
    mention_of,
    nobody,
    require_named,
    unnamed,
)
from mlops.feature_store.partitions import Partitions, holding
from mlops.feature_store.settings import ClickHouseSettings
from mlops.feature_store.tables import DEAD_LETTERS, EVALUATIONS, ROWS

IDS_IN_A_QUERY: Final = 100
"""Ids travel in the address of the request, and an address of 8 KiB is understood everywhere."""

Keys = Mapping[str, set[str]]
"""Ids by their kind."""


class ErasurePreview:
    """Reads what `Eraser` would take out, and changes nothing."""

    def __init__(
        self,
        client: Any,
        settings: ClickHouseSettings,
        archive: Archive | None = None,
        *,
        told: Told = nobody,
    ) -> None:
        self._client = client
        self._settings = settings
        self._archive = archive
        self._told = told

    async def count(self, user_id: str, partitions: Sequence[Partitions] = ()) -> Erased:
        """How much there is of one person, as `Eraser.erase` would report it.

        Raises:
            ValueError: no user is named.
            Unavailable: ClickHouse or S3 is away.
        """
        require_named(user_id)
        with unnamed(user_id):
            live = await self._live_keys(user_id)
        keys = {kind: set(ids) for kind, ids in live.items()}
        if self._archive is not None:
            for kind, key in await archived_keys(self._archive, user_id, self._told):
                keys[kind].add(key)
        unwanted = {"user_id": {user_id}, "request_id": keys[REQUEST]}
        return Erased(
            rows=await self._counted(ROWS, keys),
            evaluations=await self._counted(EVALUATIONS, keys),
            dead_letters=await self._counted(DEAD_LETTERS, keys),
            archived=0 if self._archive is None else await _archived(self._archive, keys),
            partitions=sum([await holding(each, unwanted, self._told) for each in partitions]),
        )

    async def _live_keys(self, user_id: str) -> dict[str, set[str]]:
        rows = await self._rows(
            f"SELECT record_id, request_id FROM {ROWS} WHERE {OF_USER}", {"user": user_id}
        )
        letters = await self._rows(
            f"SELECT record_id FROM {DEAD_LETTERS} WHERE {NAMES_USER}",
            {"pattern": mention_of(user_id)},
        )
        return {
            RECORD: {str(record) for record, _ in rows},
            REQUEST: {str(request) for _, request in rows},
            LETTER: {str(record) for (record,) in letters},
        }

    async def _counted(self, table: str, keys: Keys) -> int:
        column, kind = ERASED_BY[table]
        count = 0
        for ids in batches(sorted(keys[kind]), IDS_IN_A_QUERY):
            ((found,),) = await self._rows(
                f"SELECT count() FROM {table} WHERE {column} IN {{ids:Array(String)}}",
                {"ids": ids},
            )
            count += int(found)
        return count

    async def _rows(self, text: str, parameters: dict[str, Any]) -> Sequence[tuple[Any, ...]]:
        async with translated(self._settings, "count what would be erased"):
            rows: Sequence[tuple[Any, ...]] = (
                await self._client.query(text, parameters=parameters)
            ).result_rows
            return rows


async def archived_keys(
    archive: Archive, user_id: str, told: Told = nobody
) -> list[tuple[str, str]]:
    """Kind and id of everything that archived rows and dead letters have of a person."""
    found: list[tuple[str, str]] = []
    for table in (ROWS, DEAD_LETTERS):
        days = await archive.days(table)
        for done, day in enumerate(days, 1):
            async for data in archive.files(table, day):
                found += await asyncio.to_thread(_keys, data, user_id)
            told(f"archived days of {table} read", done, len(days))
    return found


def _keys(data: bytes, user_id: str) -> list[tuple[str, str]]:
    """Kind and id of what an archived file of rows or of dead letters has of a person."""
    from mlops.feature_store import parquet_rows  # noqa: PLC0415  pyarrow is an extra

    table = parquet_rows.table_of(data, ["user_id", "record_id", "request_id", "payload_excerpt"])
    if "payload_excerpt" in table.column_names:
        letters = parquet_rows.mentioning(table, "payload_excerpt", mention_of(user_id))
        return [(LETTER, key) for key in letters.column("record_id").to_pylist()]
    rows = parquet_rows.having(table, "user_id", user_id)
    return [(RECORD, key) for key in rows.column("record_id").to_pylist()] + [
        (REQUEST, key) for key in rows.column("request_id").to_pylist()
    ]


async def _archived(archive: Archive, keys: Keys) -> int:
    from mlops.feature_store import parquet_rows  # noqa: PLC0415  pyarrow is an extra

    count = 0
    for table, (column, kind) in ERASED_BY.items():
        unwanted = {column: keys[kind]}
        for day in await archive.days(table) if keys[kind] else ():
            async for data in archive.files(table, day):
                changed = await asyncio.to_thread(parquet_rows.without, data, unwanted)
                count += changed[1] if changed else 0
    return count


def batches(values: Iterable[str], size: int) -> Iterator[list[str]]:
    """The values in order, at most `size` at a time."""
    left = iter(values)
    while batch := list(islice(left, size)):
        yield batch
