"""Objects in one S3 bucket: what the archive needs of them, and its errors in our words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Any, Final, TypeVar

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error

from mlops.feature_store.errors import Unavailable

T = TypeVar("T")

TIMEOUT_S: Final = 60.0
"""Longest silence of the server on one request."""
RETRIES: Final = 3
"""Of a request that found nobody; more is for the next run of the command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectStoreSettings:
    """One bucket on a server that speaks S3."""

    endpoint: str
    """`HOST:PORT`, without a scheme."""
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str
    secure: bool = False


class ObjectStore:
    """Methods raise `Unavailable` where the server is away, refuses or has no such bucket."""

    def __init__(self, settings: ObjectStoreSettings) -> None:
        self._settings = settings
        self._client = Minio(
            settings.endpoint,
            access_key=settings.access_key,
            secret_key=settings.secret_key,
            secure=settings.secure,
            http_client=urllib3.PoolManager(
                timeout=urllib3.Timeout(total=TIMEOUT_S),
                retries=urllib3.Retry(total=RETRIES, backoff_factor=0.2),
            ),
        )

    @property
    def place(self) -> str:
        return f"s3://{self._settings.bucket}"

    async def put(self, name: str, data: bytes) -> None:
        await self._run(
            f"store {name}",
            lambda: self._client.put_object(self._settings.bucket, name, BytesIO(data), len(data)),
        )

    async def get(self, name: str) -> bytes | None:
        """None: there is no such object."""

        def read() -> bytes | None:
            try:
                answer = self._client.get_object(self._settings.bucket, name)
            except S3Error as error:
                if error.code == "NoSuchKey":
                    return None
                raise
            try:
                return bytes(answer.read())
            finally:
                answer.close()
                answer.release_conn()

        return await self._run(f"read {name}", read)

    async def names(self, prefix: str) -> list[str]:
        """Every object below `prefix`, in order."""

        def listed() -> list[str]:
            found = self._client.list_objects(self._settings.bucket, prefix, recursive=True)
            return sorted(str(one.object_name) for one in found)

        return await self._run(f"list {prefix}", listed)

    async def remove(self, names: Iterable[str]) -> None:
        """With every version of each that the bucket keeps: nothing of them is left to read."""
        for name in names:
            await self._run(
                f"remove {name}", partial(self._remove_versions, name, keep_latest=False)
            )

    async def forget_old_versions(self, name: str) -> None:
        """Of an object that was replaced, in a bucket that keeps versions."""
        await self._run(f"remove {name}", partial(self._remove_versions, name, keep_latest=True))

    def _remove_versions(self, name: str, *, keep_latest: bool) -> None:
        found = self._client.list_objects(
            self._settings.bucket, name, recursive=True, include_version=True
        )
        versions = [
            DeleteObject(name, one.version_id)
            for one in found
            if one.object_name == name and not (keep_latest and _is_latest(one))
        ]
        for error in self._client.remove_objects(self._settings.bucket, versions):
            raise Unavailable(f"remove {name} from {self.place}: {error.code}: {error.message}")

    async def _run(self, what: str, call: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(call)
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            reason: Any = error.code if isinstance(error, S3Error) else error
            where = f"{self.place} at {self._settings.endpoint}"
            raise Unavailable(f"{what}: {where}: {reason}") from error


def _is_latest(found: Any) -> bool:
    """Where the bucket keeps no versions there is only the latest."""
    return found.is_latest in (None, True, "true")
