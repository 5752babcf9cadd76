"""Embed a partition's texts in batches, each of which is kept: a broken run goes on where it was.

Batches are Parquet files. Those of queries name the request and the user, so that an erasure takes
a person's embeddings too; vectors are found by key, so rows may be missing from a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from mlops.serving.embedder import Vectors
from mlops.training.encoders import Encoder
from mlops.training.pair_files import write_table
from mlops.training.progress import SILENT, Progress

BATCH_TEXTS: Final = 1_024
"""Texts of one file: a second or so of work for a small encoder, which is what a crash can cost."""


def embedded(
    texts: Mapping[str, str],
    encoder: Encoder,
    folder: Path,
    *,
    named: Mapping[str, Sequence[str | None]] | None = None,
    progress: Progress = SILENT,
) -> Vectors:
    """The vectors of `texts` by key, in their order; embeds only what is in no batch yet.

    Args:
        texts: by key, each of which is embedded once.
        encoder: what is kept is of this encoder alone.
        folder: of the batches. Has one for each encoder.
        named: columns to keep beside each vector, in the order of `texts`.
        progress: told after every batch.
    """
    folder = folder / encoder.name.replace("/", "_")
    found = _read(folder, encoder.dimension)
    keys = list(texts)
    missing = [position for position, key in enumerate(keys) if key not in found]
    number = len(list(folder.glob("*.parquet")))
    progress(folder.parent.name, len(keys) - len(missing), len(keys))
    for start in range(0, len(missing), BATCH_TEXTS):
        batch = missing[start : start + BATCH_TEXTS]
        vectors = encoder.embed([texts[keys[position]] for position in batch])
        columns = {**(named or {}), "key": keys}
        here = {name: [column[one] for one in batch] for name, column in columns.items()}
        write_table(folder / f"{number:05d}.parquet", _table(here, vectors))
        number += 1
        found |= {keys[position]: row for position, row in zip(batch, vectors, strict=True)}
        progress(folder.parent.name, len(keys) - len(missing) + start + len(batch), len(keys))
    if not keys:
        return np.zeros((0, encoder.dimension), dtype=np.float32)
    return np.stack([found[key] for key in keys])


def _table(columns: Mapping[str, Sequence[str | None]], vectors: Vectors) -> pa.Table:
    texts = {name: pa.array(column, pa.string()) for name, column in columns.items()}
    flat = pa.array(vectors.reshape(-1), pa.float32())
    return pa.table(
        {**texts, "embedding": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])}
    )


def _read(folder: Path, dimension: int) -> dict[str, Vectors]:
    found: dict[str, Vectors] = {}
    for path in sorted(folder.glob("*.parquet")):
        table = parquet.read_table(path, columns=["key", "embedding"])
        flat = table.column("embedding").combine_chunks().flatten().to_numpy()
        vectors = flat.reshape(-1, dimension)
        found |= zip(table.column("key").to_pylist(), vectors, strict=True)
    return found
