"""The pairs of a partition, as a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import parquet

from mlops.serving.files import write_whole
from mlops.training.labelling import Pair, Split

NAME: Final = "pairs.parquet"

_SCHEMA: Final = pa.schema(
    {
        "query_key": pa.string(),
        "query_text": pa.string(),
        "document_id": pa.string(),
        "refused_ids": pa.list_(pa.string()),
        "split": pa.string(),
        "times_asked": pa.int64(),
        "first_asked_at": pa.timestamp("us"),
        "request_id": pa.string(),
        "user_id": pa.string(),
    }
)


def write_table(path: Path, table: pa.Table) -> None:
    """A Parquet file, whole or not at all."""
    content = BytesIO()
    parquet.write_table(table, content, compression="zstd")
    write_whole(path, content.getvalue())


def write_pairs(folder: Path, pairs: Sequence[Pair]) -> None:
    """One row a pair, whole or not at all; pairs of an earlier attempt are replaced."""
    columns = {
        name: [getattr(one, name) for one in pairs] for name in _SCHEMA.names if name != "split"
    }
    columns["split"] = [str(one.split) for one in pairs]
    write_table(folder / NAME, pa.table(columns, schema=_SCHEMA))


def read_pairs(folder: Path) -> list[Pair]:
    """As they were written, without those that were erased since."""
    rows = parquet.read_table(folder / NAME).to_pylist()
    return [
        Pair(
            **{
                **row,
                "split": Split(row["split"]),
                "refused_ids": tuple(row["refused_ids"]),
            }
        )
        for row in rows
    ]
