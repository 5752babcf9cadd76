"""Partitions of training data in a folder: what comes and goes while they are read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from mlops.feature_store.partitions import FolderPartitions, erase_from


class Cleaned(FolderPartitions):
    """A folder from which a cleaning takes files that were named already."""

    def __init__(self, folder: Path, gone: str) -> None:
        super().__init__(folder)
        self._gone = Path(gone)

    async def names(self) -> list[str]:
        found = await super().names()
        self._gone.unlink()
        return found


async def test_a_file_that_goes_meanwhile_does_not_stop_an_erasure(tmp_path: Path) -> None:
    table = pa.table({"user_id": ["ada", "ben"]})
    for name in ("first", "second"):
        parquet.write_table(table, tmp_path / f"{name}.parquet")

    taken = await erase_from(
        Cleaned(tmp_path, str(tmp_path / "first.parquet")), {"user_id": {"ada"}}
    )

    assert taken == 1
    assert parquet.read_table(tmp_path / "second.parquet").to_pydict() == {"user_id": ["ben"]}
