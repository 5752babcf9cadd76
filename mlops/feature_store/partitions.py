"""Training data that lies about as Parquet files: in a folder, or below a prefix of a bucket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path
from typing import Protocol

from mlops.feature_store.erasure import Told, nobody
from mlops.feature_store.object_store import ObjectStore

log = logging.getLogger(__name__)

SUFFIX = ".parquet"


class Partitions(Protocol):
    """Files that can be read, and replaced whole."""

    async def names(self) -> list[str]:
        """Of every file, in order."""

    async def get(self, name: str) -> bytes | None:
        """The whole file; None: it is gone since it was named."""

    async def replace(self, name: str, data: bytes) -> None:
        """Afterwards nothing of the old bytes can be read."""


class FolderPartitions:
    """Every Parquet file below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def names(self) -> list[str]:
        """Paths of files."""
        return sorted(str(path) for path in self._folder.rglob(f"*{SUFFIX}"))

    async def get(self, name: str) -> bytes | None:
        """None: a cleaning of old partitions was faster."""
        try:
            return await asyncio.to_thread(Path(name).read_bytes)
        except FileNotFoundError:
            return None

    async def replace(self, name: str, data: bytes) -> None:
        """Whoever reads meanwhile gets the old file or the new one."""
        await asyncio.to_thread(_replace, Path(name), data)


def _replace(path: Path, data: bytes) -> None:
    """The old file or the new one, whatever happens in between; with the old one's mode and owner,
    where we may give it away, because those who train on it are others than those who erase."""
    try:
        before = path.stat()
    except FileNotFoundError:
        return  # a cleaning of old partitions was faster
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".erasing-", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            with contextlib.suppress(PermissionError):
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except OSError:
            Path(file.name).unlink(missing_ok=True)
            raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)  # else a power cut could bring the old name back
    finally:
        os.close(directory)


class BucketPartitions:
    """Every Parquet object below a prefix."""

    def __init__(self, objects: ObjectStore, prefix: str) -> None:
        self._objects = objects
        self._prefix = prefix

    async def names(self) -> list[str]:
        """Keys of objects."""
        return [name for name in await self._objects.names(self._prefix) if name.endswith(SUFFIX)]

    async def get(self, name: str) -> bytes | None:
        """None: it was removed from the bucket."""
        return await self._objects.get(name)

    async def replace(self, name: str, data: bytes) -> None:
        """In a bucket that keeps versions, the old ones go."""
        await self._objects.put(name, data)
        await self._objects.forget_old_versions(name)


async def erase_from(
    partitions: Partitions, unwanted: Mapping[str, Collection[str]], told: Told = nobody
) -> int:
    """Take rows out of every file; how many went. See `parquet_rows.without`.

    A file that has none of the columns cannot be told to hold the person or not, and is named in
    the log.
    """
    taken = 0
    async for name, rest, gone in _changed(partitions, unwanted, told):
        await partitions.replace(name, rest)
        taken += gone
    return taken


async def holding(
    partitions: Partitions, unwanted: Mapping[str, Collection[str]], told: Told = nobody
) -> int:
    """How many rows `erase_from` would take; nothing is changed."""
    return sum([gone async for _, _, gone in _changed(partitions, unwanted, told)])


async def _changed(
    partitions: Partitions, unwanted: Mapping[str, Collection[str]], told: Told
) -> AsyncIterator[tuple[str, bytes, int]]:
    """Files that have such rows: the name, the file without them, how many they are."""
    from mlops.feature_store import parquet_rows  # noqa: PLC0415  pyarrow is an extra

    names = await partitions.names()
    for done, name in enumerate(names):
        told("files of training data", done, len(names))
        data = await partitions.get(name)
        if data is None:
            continue
        if not parquet_rows.has_any(data, unwanted):
            log.warning("%s has no column of %s: left as it is", name, ", ".join(unwanted))
            continue
        changed = await asyncio.to_thread(parquet_rows.without, data, unwanted)
        if changed is not None:
            yield name, *changed
    told("files of training data", len(names), len(names))
