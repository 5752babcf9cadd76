"""Take a person out of everything: tables, archived days, training partitions."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from mlops.feature_store.archive import Archive
from mlops.feature_store.archive_plan import DayManifest, Part, Slice
from mlops.feature_store.connection import never_dropped, translated
from mlops.feature_store.erasure import (
    ERASED_BY,
    REQUEST,
    RESTORED,
    Erased,
    Told,
    count_statement,
    delete_statement,
    find_statements,
    mention_of,
    nobody,
    placed,
    require_named,
    sums_again,
    unnamed,
)
from mlops.feature_store.erasure_preview import archived_keys
from mlops.feature_store.errors import Unavailable
from mlops.feature_store.partitions import Partitions, erase_from
from mlops.feature_store.settings import ClickHouseSettings
from mlops.feature_store.tables import (
    DEAD_LETTERS,
    EMBEDDING_BATCHES,
    ERASURES,
    EVALUATIONS,
    ROWS,
)

log = logging.getLogger(__name__)

CHANGED: Final = (*ERASED_BY, EMBEDDING_BATCHES)
OLD_PARTS_TIMEOUT_S: Final = 60.0
"""A replaced part goes a second after it is looked for, if no query reads it."""
POLL_S: Final = 1.0
_MUTATION: Final = {"mutations_sync": 2, "allow_nondeterministic_mutations": 1}


class Eraser:
    """Every step may be repeated; what was interrupted is finished by the next erasure."""

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

    async def erase(self, user_id: str, partitions: Sequence[Partitions] = ()) -> Erased:
        """Everything of one person. Returns when none of it is left, on disk either.

        `user_id` is as stored: where the recorder hashes it, the hash. `partitions` are training
        data made earlier.

        Raises:
            ValueError: no user is named.
            Unavailable: ClickHouse or S3 is away; run it again.
        """
        require_named(user_id)
        erasure = secrets.token_hex(8)
        parameters = {"erasure": erasure, "user": user_id, "pattern": mention_of(user_id)}
        with unnamed(user_id):
            for statement in find_statements():
                await self._command(statement, parameters, {})
        if self._archive is not None:
            await self._find_archived(self._archive, erasure, user_id)
        unwanted = {"user_id": {user_id}, "request_id": await self._listed(erasure, REQUEST)}
        taken = sum([await erase_from(each, unwanted, self._told) for each in partitions])
        erased = await self._take_out(erasure)
        for (left,) in await self._rows(f"SELECT DISTINCT erasure FROM {ERASURES}"):
            log.warning("an erasure that was interrupted is finished")
            await self._take_out(str(left))
        return replace(erased, partitions=taken)

    async def _take_out(self, erasure: str) -> Erased:
        """Everything that the erasure lists: first from the archive, last the list itself."""
        archived = 0
        if self._archive is not None:
            archived = await self._take_out_archived(self._archive, erasure)
        found: dict[str, int] = {}
        for table in ERASED_BY:
            ((count,),) = await self._rows(count_statement(table, erasure))
            found[table] = int(count)
        restored = [
            table
            for table in await self._restored()
            if (await self._rows(count_statement(table, erasure)))[0][0]
        ]
        if restored or any(found.values()):
            await self._take_out_live(erasure, restored)
        target = placed(ERASURES, self._settings.cluster)
        await self._command(f"ALTER TABLE {target} DROP PARTITION '{erasure}'", {}, {})
        return Erased(
            rows=found[ROWS],
            evaluations=found[EVALUATIONS],
            dead_letters=found[DEAD_LETTERS],
            archived=archived,
        )

    async def _restored(self) -> list[str]:
        """Tables that archived days were brought back into."""
        names = ", ".join(f"'{table}{RESTORED}'" for table in ERASED_BY)
        found = await self._rows(
            "SELECT name FROM system.tables WHERE database = currentDatabase() "
            f"AND name IN ({names})"
        )
        return [str(name) for (name,) in found]

    async def _take_out_live(self, erasure: str, restored: Sequence[str]) -> None:
        tables = (*CHANGED, *restored)
        for done, table in enumerate(tables, 1):
            statement = delete_statement(table, erasure, self._settings.cluster)
            await self._command(statement, {}, _MUTATION)
            self._told("tables", done, len(tables))
        await self._command(sums_again(erasure), {}, never_dropped())
        await self._forget_old_parts(tables)

    async def _listed(self, erasure: str, kind: str) -> set[str]:
        found = await self._rows(
            f"SELECT DISTINCT key FROM {ERASURES} WHERE erasure = '{erasure}' AND kind = '{kind}'"
        )
        return {str(key) for (key,) in found}

    async def _find_archived(self, archive: Archive, erasure: str, user_id: str) -> None:
        """List ids of rows and letters that only the archive has."""
        keys = [(erasure, *key) for key in await archived_keys(archive, user_id, self._told)]
        if keys:
            async with translated(self._settings, "list what is archived of a person"):
                await self._client.insert(ERASURES, keys, column_names=["erasure", "kind", "key"])

    async def _take_out_archived(self, archive: Archive, erasure: str) -> int:
        taken = 0
        for table, (column, kind) in ERASED_BY.items():
            keys = await self._listed(erasure, kind)
            days = await archive.days(table) if keys else []
            for done, day in enumerate(days, 1):
                manifest = await archive.manifest(table, day)
                if manifest is not None:
                    taken += await self._rewrite(archive, manifest, erasure, {column: keys})
                self._told(f"archived days of {table} looked through", done, len(days))
        return taken

    async def _rewrite(
        self, archive: Archive, manifest: DayManifest, erasure: str, unwanted: dict[str, set[str]]
    ) -> int:
        """A day without the unwanted rows: new files, then the manifest, then no old files."""
        from mlops.feature_store import parquet_rows  # noqa: PLC0415  pyarrow is an extra

        parts: list[Part] = []
        for part in manifest.parts:
            data = await archive.read_part(manifest, part)
            changed = await asyncio.to_thread(parquet_rows.without, data, unwanted)
            if changed is None:
                parts.append(part)
                continue
            rest, gone = changed
            if gone < part.rows:
                name = f"{part.name.removesuffix('.parquet')}-{erasure}.parquet"
                piece = Slice(first=part.first, last=part.last, rows=part.rows - gone)
                parts.append(
                    await archive.put_part(
                        manifest.table, manifest.day, name=name, piece=piece, data=rest
                    )
                )
        rest_of = replace(manifest, parts=tuple(parts))
        taken = manifest.rows - rest_of.rows
        if taken:
            rest_of = replace(rest_of, erased=manifest.erased + taken)
            await archive.write(rest_of)
        await archive.sweep(rest_of)
        return taken

    async def _forget_old_parts(self, tables: Sequence[str]) -> None:
        """Wait until the parts that the deletions replaced are off the disk.

        The engine keeps them for eight minutes, against a power cut; on a cluster that is waited
        for by nobody.
        """
        if self._settings.cluster:
            return
        for table in tables:
            await self._command(
                f"ALTER TABLE {table} MODIFY SETTING old_parts_lifetime = 1", {}, {}
            )
        try:
            deadline_s = time.monotonic() + OLD_PARTS_TIMEOUT_S
            first = left = await self._old_parts(tables)
            while left:
                if time.monotonic() > deadline_s:
                    raise Unavailable(
                        f"old parts are still on disk after {OLD_PARTS_TIMEOUT_S:g} s; run it again"
                    )
                for table in tables:  # which wakes the one who cleans up
                    await self._command(f"SYSTEM START CLEANUP {table}", {}, {})
                await asyncio.sleep(POLL_S)
                left = await self._old_parts(tables)
                first = max(first, left)
                self._told("old parts off the disk", first - left, first)
        finally:
            for table in tables:
                await self._command(f"ALTER TABLE {table} RESET SETTING old_parts_lifetime", {}, {})

    async def _old_parts(self, tables: Sequence[str]) -> int:
        names = ", ".join(f"'{table}'" for table in tables)
        ((count,),) = await self._rows(
            "SELECT count() FROM system.parts WHERE NOT active "
            f"AND database = currentDatabase() AND table IN ({names})"
        )
        return int(count)

    async def _rows(self, text: str) -> Sequence[tuple[Any, ...]]:
        async with translated(self._settings, "look for what is to be erased"):
            rows: Sequence[tuple[Any, ...]] = (await self._client.query(text)).result_rows
            return rows

    async def _command(
        self, text: str, parameters: dict[str, Any], settings: dict[str, Any]
    ) -> None:
        async with translated(self._settings, "erase a person"):
            await self._client.command(text, parameters=parameters, settings=settings)
