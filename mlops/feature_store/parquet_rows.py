"""Take rows out of a Parquet file. Pure: bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from io import BytesIO

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet


def table_of(data: bytes, columns: list[str]) -> pa.Table:
    """Those of `columns` that the file has."""
    source = parquet.ParquetFile(BytesIO(data))
    return source.read(columns=[name for name in columns if name in source.schema_arrow.names])


def has_any(data: bytes, columns: Iterable[str]) -> bool:
    """Whether the file has one of the columns."""
    return not set(parquet.ParquetFile(BytesIO(data)).schema_arrow.names).isdisjoint(columns)


def having(table: pa.Table, column: str, value: str) -> pa.Table:
    """Rows in which a column has a value."""
    return table.filter(pc.equal(table.column(column), value))


def mentioning(table: pa.Table, column: str, pattern: str) -> pa.Table:
    """Rows in which a text matches a pattern of RE2, the one that ClickHouse has too."""
    return table.filter(pc.match_substring_regex(table.column(column), pattern))


def without(data: bytes, unwanted: Mapping[str, Collection[str]]) -> tuple[bytes, int] | None:
    """The file without rows in which a column has one of its unwanted values, and how many went.

    None: there is no such row, and the file may stay as it is. Columns it does not have are passed
    over.
    """
    keys = table_of(data, list(unwanted))
    kept = None
    for name in keys.column_names:
        found = pc.is_in(keys.column(name), value_set=pa.array(list(unwanted[name]), pa.string()))
        stays = pc.invert(pc.fill_null(found, False))  # noqa: FBT003  pyarrow's own signature
        kept = stays if kept is None else pc.and_(kept, stays)
    if kept is None or pc.all(kept).as_py():
        return None
    source = parquet.ParquetFile(BytesIO(data)).read()
    rest = source.filter(kept)
    out = BytesIO()
    parquet.write_table(rest, out, compression="zstd")
    return out.getvalue(), source.num_rows - rest.num_rows
