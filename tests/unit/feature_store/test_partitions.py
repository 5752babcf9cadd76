"""Partitions of training data in a folder: what comes and goes while they are read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pyarrow as pa
import pytest
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


async def test_who_could_read_a_file_still_can(tmp_path: Path) -> None:
    """An erasure is run by an operator, and training by somebody else."""
    path = tmp_path / "day.parquet"
    parquet.write_table(pa.table({"user_id": ["ada", "ben"]}), path)
    path.chmod(0o640)

    assert await erase_from(FolderPartitions(tmp_path), {"user_id": {"ada"}}) == 1

    assert path.stat().st_mode & 0o777 == 0o640


async def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet.write_table(pa.table({"user_id": ["ada", "ben"]}), tmp_path / "day.parquet")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        await erase_from(FolderPartitions(tmp_path), {"user_id": {"ada"}})

    assert [path.name for path in tmp_path.iterdir()] == ["day.parquet"]
