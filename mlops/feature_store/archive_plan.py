"""What lies where in the archive, and how a day is cut into files. Pure.

An archived day is a folder: Parquet files, and `manifest.json` that names them with their sizes and
checksums. The manifest is written last, so a day is there whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Final

import msgspec

from mlops.feature_store.retention import EXPIRES_BY
from mlops.feature_store.tables import EMBEDDING_BATCHES, ERASURES, ROWS

ARCHIVED: Final = {
    table: by for table, by in EXPIRES_BY.items() if table not in {EMBEDDING_BATCHES, ERASURES}
}
"""Tables that are archived, by the column of their day. Sums of embeddings are made of rows, and
can be made of archived rows again."""

FILE_BYTES: Final = 64_000_000
"""Of the values in one file, about: what is held in memory at once, a few times over."""
MAX_FILE_ROWS: Final = 500_000
LEAD_DAYS: Final = 1
"""A day is archived this long before the table forgets it."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One file: the rows of some seconds of the day."""

    name: str
    first: int
    last: int
    """Seconds of Unix time, both included."""
    rows: int
    size_bytes: int
    sha256: str


class DayManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an archived day is made of."""

    version: int = 1
    table: str
    day: date
    run: int = 0
    """Grows when the day is archived again, so that no file is ever replaced by another."""
    columns: dict[str, str]
    """Name and ClickHouse type, in order."""
    parts: tuple[Part, ...]
    erased: int = 0
    """Rows that were taken out since, for people who asked."""

    @property
    def rows(self) -> int:
        """Of all files together."""
        return sum(part.rows for part in self.parts)


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a day that become one file."""

    first: int
    last: int
    rows: int


def slices(seconds: Iterable[tuple[int, int]], rows_per_file: int) -> list[Slice]:
    """Cut a day, given as (second, rows) in order, into files of about `rows_per_file` rows.

    A second is never cut; the same counts give the same slices.
    """
    made: list[Slice] = []
    first = last = rows = 0
    for second, count in seconds:
        if rows and rows + count > rows_per_file:
            made.append(Slice(first=first, last=last, rows=rows))
            rows = 0
        if not rows:
            first = second
        last = second
        rows += count
    if rows:
        made.append(Slice(first=first, last=last, rows=rows))
    return made


def rows_per_file(rows: int, value_bytes: int) -> int:
    """From the size of a table: its rows, and the bytes of their values."""
    if not rows:
        return MAX_FILE_ROWS
    return max(1, min(MAX_FILE_ROWS, FILE_BYTES * rows // max(1, value_bytes)))


def day_prefix(root: str, table: str, day: date) -> str:
    """Folder of a day in the bucket; ends with `/`."""
    return f"{root}/{table}/{day.isoformat()}/"


def manifest_name(root: str, table: str, day: date) -> str:
    """Name of the object that says what a day is made of."""
    return day_prefix(root, table, day) + "manifest.json"


def part_name(run: int, piece: Slice) -> str:
    """Below the day's folder. The run keeps the files of two archivings apart."""
    return f"{run:04d}/{piece.first}-{piece.last}.parquet"


def is_of_later_run(name: str, run: int) -> bool:
    """Whether a file, named below its day's folder, was made by a run after this one."""
    made_by = name.partition("/")[0]
    return made_by.isdigit() and int(made_by) > run


def due(
    days: Sequence[date],
    *,
    today: date,
    keep_days: int | None,
    older_than_days: int | None,
) -> list[date]:
    """Days to archive, oldest first: all that are over and old enough.

    `keep_days` is the table's retention; without one only `older_than_days` makes a day due.
    """
    ages = [age for age in (older_than_days,) if age is not None]
    if keep_days is not None:
        ages.append(keep_days - LEAD_DAYS)
    if not ages:
        return []
    newest = today - timedelta(days=max(1, min(ages)))
    return sorted(day for day in days if day <= newest)


def select_slice(table: str, columns: Iterable[str]) -> str:
    """The rows of a slice in order of time; its parameters are the slice's `first` and `last`."""
    by = ARCHIVED[table]
    return f"SELECT {', '.join(columns)} FROM {final(table)} WHERE {_within(by)} ORDER BY {by}"


def _within(by: str) -> str:
    second = f"toDateTime({by}, 'UTC')"
    return (
        f"{second} >= toDateTime({{first:Int64}}, 'UTC') "
        f"AND {second} <= toDateTime({{last:Int64}}, 'UTC')"
    )


def final(table: str) -> str:
    """To read from: rows of all tables but one replace each other."""
    return table if table == ROWS else f"{table} FINAL"


def count_days(table: str) -> str:
    """Rows of each UTC day that the table has, as (day, rows)."""
    by = ARCHIVED[table]
    return f"SELECT toDate({by}, 'UTC') AS day, count() FROM {final(table)} GROUP BY day"


def count_seconds(table: str) -> str:
    """Rows of each second of one UTC day, as (Unix time, rows) in order; its parameter is `day`."""
    by = ARCHIVED[table]
    return (
        f"SELECT toUnixTimestamp(toDateTime({by}, 'UTC')) AS second, count() FROM {final(table)} "
        f"WHERE toDate({by}, 'UTC') = {{day:Date}} GROUP BY second ORDER BY second"
    )


def same_columns(archived: Mapping[str, str], live: Mapping[str, str]) -> list[str]:
    """Columns of an archived day that the table still has; others came or went since."""
    return [name for name in archived if name in live]
