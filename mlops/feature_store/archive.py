"""Days of the feature store as Parquet in S3, before the tables forget them; and back again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from mlops.feature_store.archive_plan import (
    ARCHIVED,
    DayManifest,
    Part,
    Slice,
    count_days,
    count_seconds,
    day_prefix,
    due,
    final,
    is_of_later_run,
    manifest_name,
    part_name,
    rows_per_file,
    same_columns,
    select_slice,
    slices,
)
from mlops.feature_store.connection import never_dropped, open_client, translated
from mlops.feature_store.errors import Unavailable
from mlops.feature_store.object_store import ObjectStore
from mlops.feature_store.settings import ClickHouseSettings

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

ATTEMPTS: Final = 3
"""Of a day whose rows change while it is read."""
PARQUET: Final = {
    "output_format_parquet_string_as_string": 1,
    "output_format_parquet_compression_method": "zstd",
}


class Archive:
    """The archive of one database in one bucket. Methods raise `Unavailable`: run them again."""

    def __init__(self, client: Any, settings: ClickHouseSettings, objects: ObjectStore) -> None:
        self._client = client
        self._settings = settings
        self.objects = objects
        self.root = f"archive/{settings.database}"

    @classmethod
    @asynccontextmanager
    async def connected(
        cls, settings: ClickHouseSettings, objects: ObjectStore
    ) -> AsyncIterator[Self]:
        """An archive with a connection of its own, closed at the end.

        Raises:
            Unavailable: ClickHouse does not answer.
        """
        client = await open_client(settings, database=settings.database)
        try:
            yield cls(client, settings, objects)
        finally:
            await client.close()

    async def missing(
        self, *, older_than_days: int | None = None, today: date | None = None
    ) -> list[tuple[str, date]]:
        """Days that are due and not archived, or archived with fewer rows than there are now."""
        found = []
        for table in ARCHIVED:
            counts = dict(await self._rows(count_days(table), {}))
            days = due(
                list(counts),
                today=today or datetime.now(UTC).date(),
                keep_days=self._settings.retention_days.get(table),
                older_than_days=older_than_days,
            )
            for day in days:
                manifest = await self.manifest(table, day)
                if manifest is None or counts[day] > manifest.rows:
                    found.append((table, day))
        return found

    async def archive_day(
        self, table: str, day: date, *, told: Callable[[int, int], None] = lambda _done, _all: None
    ) -> DayManifest:
        """Store one day, whole and verified. Files of an earlier, interrupted run are kept.

        `told` gets the rows that are stored and those of the whole day, after every file.

        Raises:
            Unavailable: also where the rows of the day do not stop changing.
        """
        before = await self.manifest(table, day)
        run = 0 if before is None else before.run + 1
        columns = await self._columns(table)
        for _ in range(ATTEMPTS):
            parts: list[Part] = []
            pieces = await self._slices(table, day)
            rows = sum(piece.rows for piece in pieces)
            for piece in pieces:
                parts.append(await self._archive_slice(table, day, run, piece, columns))
                told(sum(part.rows for part in parts), rows)
            manifest = DayManifest(
                table=table, day=day, run=run, columns=columns, parts=tuple(parts)
            )
            if manifest.rows == sum(piece.rows for piece in await self._slices(table, day)):
                await self.write(manifest)
                await self.sweep(manifest)
                return manifest
        raise Unavailable(f"archive {table} of {day}: rows are still being inserted into that day")

    async def restore_day(
        self,
        table: str,
        day: date,
        *,
        into: str,
        told: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> int:
        """Bring a day back into the table `into`, made like `table` if it is missing; its rows.

        Whatever `into` has of that day is replaced, so this may be repeated. `told` gets the rows
        that are back and those of the whole day, after every file.

        Raises:
            ValueError: the day is not archived.
        """
        manifest = await self.manifest(table, day)
        if manifest is None:
            raise ValueError(f"{table} of {day} is not in {self.objects.place}/{self.root}")
        await self._make_like(table, into)
        by = ARCHIVED[table]
        columns = same_columns(manifest.columns, await self._columns(into))
        await self._command(
            f"ALTER TABLE {into} DELETE WHERE toDate({by}, 'UTC') = {{day:Date}}",
            {"day": day},
            {"mutations_sync": 2},
        )
        back = 0
        for part in manifest.parts:
            data = await self.read_part(manifest, part)
            async with translated(self._settings, f"restore {table} of {day}"):
                await self._client.raw_insert(
                    into,
                    columns,
                    insert_block=data,
                    fmt="Parquet",
                    settings={**never_dropped(), "input_format_skip_unknown_fields": 1},
                )
            back += part.rows
            told(back, manifest.rows)
        ((count,),) = await self._rows(
            f"SELECT count() FROM {into}{final(table).removeprefix(table)} "
            f"WHERE toDate({by}, 'UTC') = {{day:Date}}",
            {"day": day},
        )
        if count != manifest.rows:
            raise Unavailable(f"restore {table} of {day}: {manifest.rows} rows, but {count} came")
        return manifest.rows

    async def read(self, table: str, day: date) -> AsyncIterator[pa.Table]:
        """An archived day, a file at a time; nothing where it is not archived."""
        from pyarrow import parquet  # noqa: PLC0415  half a second, and only readers need it

        async for data in self.files(table, day):
            yield parquet.read_table(BytesIO(data))

    async def files(self, table: str, day: date) -> AsyncIterator[bytes]:
        """The same as Parquet files.

        Raises:
            Unavailable: one is gone, or its checksum is another.
        """
        manifest = await self.manifest(table, day)
        if manifest is not None:
            for part in manifest.parts:
                yield await self.read_part(manifest, part)

    async def days(self, table: str) -> list[date]:
        """Days of a table that are archived."""
        names = await self.objects.names(f"{self.root}/{table}/")
        return sorted(
            date.fromisoformat(name.split("/")[-2])
            for name in names
            if name.endswith("/manifest.json")
        )

    async def manifest(self, table: str, day: date) -> DayManifest | None:
        """Of a day; None: it is not archived."""
        data = await self.objects.get(manifest_name(self.root, table, day))
        return None if data is None else msgspec.json.decode(data, type=DayManifest)

    async def write(self, manifest: DayManifest) -> None:
        """From here on the day is what `manifest` says."""
        name = manifest_name(self.root, manifest.table, manifest.day)
        await self.objects.put(name, msgspec.json.format(msgspec.json.encode(manifest)))

    async def sweep(self, manifest: DayManifest) -> None:
        """Remove what lies in the day's folder and belongs to no manifest, but for files of a later
        run: another process may be making them."""
        prefix = day_prefix(self.root, manifest.table, manifest.day)
        known = {part.name for part in manifest.parts} | {"manifest.json"}
        below = [name.removeprefix(prefix) for name in await self.objects.names(prefix)]
        await self.objects.remove(
            [
                prefix + name
                for name in below
                if name not in known and not is_of_later_run(name, manifest.run)
            ]
        )

    async def read_part(self, manifest: DayManifest, part: Part) -> bytes:
        """The bytes of a file, as they were stored.

        Raises:
            Unavailable: it is gone, or its checksum is another.
        """
        name = day_prefix(self.root, manifest.table, manifest.day) + part.name
        data = await self.objects.get(name)
        if data is None or hashlib.sha256(data).hexdigest() != part.sha256:
            what = "is gone" if data is None else "has another checksum than when it was stored"
            raise Unavailable(f"{self.objects.place}/{name} {what}")
        return data

    async def put_part(
        self, table: str, day: date, *, name: str, piece: Slice, data: bytes
    ) -> Part:
        """Store a file and read it back: its checksum and its rows."""
        path = day_prefix(self.root, table, day) + name
        await self.objects.put(path, data)
        return await self._verified(path, name, piece, hashlib.sha256(data).hexdigest())

    async def _archive_slice(
        self, table: str, day: date, run: int, piece: Slice, columns: dict[str, str]
    ) -> Part:
        name = part_name(run, piece)
        path = day_prefix(self.root, table, day) + name
        stored = await self.objects.get(path)
        if stored is not None and _parquet_rows(stored) == piece.rows:
            return await self._verified(path, name, piece, hashlib.sha256(stored).hexdigest())
        async with translated(self._settings, f"archive {table} of {day}"):
            data = await self._client.raw_query(
                select_slice(table, columns),
                parameters={"first": piece.first, "last": piece.last},
                settings=PARQUET,
                fmt="Parquet",
            )
        return await self.put_part(table, day, name=name, piece=piece, data=data)

    async def _verified(self, path: str, name: str, piece: Slice, sha256: str) -> Part:
        data = await self.objects.get(path)
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            raise Unavailable(f"{self.objects.place}/{path} does not read back as it was stored")
        return Part(
            name=name,
            first=piece.first,
            last=piece.last,
            rows=_parquet_rows(data),
            size_bytes=len(data),
            sha256=sha256,
        )

    async def _slices(self, table: str, day: date) -> list[Slice]:
        ((rows, size_bytes),) = await self._rows(
            "SELECT sum(rows), sum(data_uncompressed_bytes) FROM system.parts "
            "WHERE active AND database = currentDatabase() AND table IN ({table:String}, "
            "concat({table:String}, '_local'))",
            {"table": table},
        )
        seconds = await self._rows(count_seconds(table), {"day": day})
        return slices([(row[0], row[1]) for row in seconds], rows_per_file(rows, size_bytes))

    async def _columns(self, table: str) -> dict[str, str]:
        found = await self._rows(
            "SELECT name, type FROM system.columns WHERE database = currentDatabase() "
            "AND table = {table:String} ORDER BY position",
            {"table": table},
        )
        return {str(name): str(kind) for name, kind in found}

    async def _make_like(self, table: str, into: str) -> None:
        await self._command(f"CREATE TABLE IF NOT EXISTS {into} AS {table}", {}, {})
        ((statement,),) = await self._rows(
            "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() "
            "AND name = {into:String}",
            {"into": into},
        )
        if "\nTTL " in statement or " TTL " in statement:
            await self._command(f"ALTER TABLE {into} REMOVE TTL", {}, {})

    async def _rows(self, text: str, parameters: dict[str, Any]) -> Sequence[tuple[Any, ...]]:
        async with translated(self._settings, "read for the archive"):
            answer = await self._client.query(text, parameters=parameters)
            rows: Sequence[tuple[Any, ...]] = answer.result_rows
            return rows

    async def _command(
        self, text: str, parameters: dict[str, Any], settings: dict[str, Any]
    ) -> None:
        async with translated(self._settings, "restore from the archive"):
            await self._client.command(text, parameters=parameters, settings=settings)


def _parquet_rows(data: bytes) -> int:
    from pyarrow import parquet  # noqa: PLC0415  half a second, and only the archive needs it

    return int(parquet.read_metadata(BytesIO(data)).num_rows)
