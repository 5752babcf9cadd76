"""The archive's bucket: the artifact store's client, in threads, with the archive's own error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from mlops.artifact_store.bucket import Bucket
from mlops.artifact_store.errors import ArtifactError, UnknownArtifact
from mlops.feature_store.errors import Unavailable

T = TypeVar("T")


class ObjectStore:
    """Methods raise `Unavailable` where the server is away, refuses or has no such bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self.place = f"s3://{bucket.name}"

    async def put(self, name: str, data: bytes) -> None:
        """Store an object, whole; one of that name is replaced."""
        await _told(lambda: self._bucket.put(name, data))

    async def get(self, name: str) -> bytes | None:
        """None: there is no such object."""
        try:
            return await _told(lambda: self._bucket.get(name))
        except UnknownArtifact:
            return None

    async def names(self, prefix: str) -> list[str]:
        """Every object below `prefix`, in order."""
        return await _told(lambda: sorted(one.key for one in self._bucket.listed(prefix)))

    async def remove(self, names: Iterable[str]) -> None:
        """With every version of each that the bucket keeps: nothing of them is left to read."""
        for name in names:
            await _told(partial(self._bucket.remove_versions, name))

    async def forget_old_versions(self, name: str) -> None:
        """Of an object that was replaced, in a bucket that keeps versions."""
        await _told(lambda: self._bucket.remove_versions(name, keep_newest=True))


async def _told(call: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(call)
    except UnknownArtifact:
        raise
    except ArtifactError as error:
        raise Unavailable(str(error)) from error
