"""The bucket, through the minio SDK; its failures in our words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from random import random
from time import sleep
from typing import Any, Final

import urllib3
from minio import Minio
from minio.commonconfig import ENABLED, GOVERNANCE, Filter
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from minio.lifecycleconfig import (
    AbortIncompleteMultipartUpload,
    LifecycleConfig,
    NoncurrentVersionExpiration,
    Rule,
)
from minio.retention import Retention
from minio.sse import SseS3
from minio.sseconfig import Rule as SseRule
from minio.sseconfig import SSEConfig
from urllib3.exceptions import HTTPError

from mlops.artifact_store.errors import (
    ArtifactError,
    BadCredentials,
    CorruptArtifact,
    MissingBucket,
    NoSpace,
    StoreUnavailable,
    UnknownArtifact,
    VersionExists,
)
from mlops.config import MinioSettings

CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 60.0
"""Longest silence on one request; a chunk takes a fraction of a second."""
RETRIES: Final = 3
"""Of a request that may be repeated, a fifth of a second after the first, then twice as long each
time, and up to as much more by chance: clients that failed together do not come back together."""
BACKOFF_S: Final = 0.2
CONNECTIONS: Final = 8
"""Kept open to the server: as many as chunks are on their way at a time, and a few."""
PRESIGNED_S: Final = 60
"""Of addresses that are used at once."""
MIN_PART_BYTES: Final = 5 * 1024**2
"""S3's own."""
MAX_OBJECT_BYTES: Final = 64 * 1024**2
"""Of ours the longest is the manifest of a terabyte, some 20 MiB; a longer one is not of ours."""

_BUSY = frozenset({502, 503, 504})
_CREDENTIALS = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity"}
)
_FULL = frozenset({"XMinioStorageFull", "QuotaExceeded", "InsufficientStorage"})
_MISSING = frozenset({"NoSuchKey", "NoSuchObject", "ResourceNotFound"})


@dataclass(frozen=True, slots=True)
class Listed:
    """An object in a listing."""

    key: str
    size: int
    modified_at: datetime


class Bucket:
    """Every call may raise `StoreUnavailable`, `BadCredentials` or `MissingBucket`. Thread-safe."""

    def __init__(self, settings: MinioSettings) -> None:
        self.name = settings.bucket_name
        self._place = f"{settings.endpoint}/{settings.bucket_name}"
        self._encrypted = settings.encrypted
        self._http = urllib3.PoolManager(
            maxsize=CONNECTIONS,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
            retries=urllib3.Retry(
                total=RETRIES,
                backoff_factor=BACKOFF_S,
                backoff_jitter=BACKOFF_S,
                status_forcelist=_BUSY,
            ),
        )
        self._client = Minio(
            endpoint=settings.endpoint,
            access_key=settings.access_key,
            secret_key=settings.secret_key,
            secure=settings.secure,
            http_client=self._http,
        )

    # ---- objects --------------------------------------------------------------------------------

    def has(self, key: str) -> bool:
        """Whether there is such an object.

        Asked without the SDK: its exception for "no" holds the frames of its callers, and with them
        the chunk that is to be stored, until the garbage collector comes by.
        """
        status = self._ask(f"look for {key}", "HEAD", key)
        if status == 404:
            return False
        self._require_success(f"look for {key}", status)
        return True

    def put(self, key: str, content: bytes) -> None:
        """Store an object; an existing one of that name is replaced.

        Raises:
            NoSpace: the server's disk is full.
        """
        with self._translated(f"store {key}"):
            self._client.put_object(
                bucket_name=self.name,
                object_name=key,
                data=BytesIO(content),
                length=len(content),
                sse=SseS3() if self._encrypted else None,
                part_size=max(len(content), MIN_PART_BYTES),  # in one request
                num_parallel_uploads=1,
            )

    def put_new(self, key: str, content: bytes) -> None:
        """Store an object only if there is none of that name: the server decides, so of two at the
        same time one wins.

        Raises:
            VersionExists: there is one.
        """
        # The SDK has no way to send this header (RFC 9110, 13.1.2).
        what, only_if_new = f"store {key}", {"If-None-Match": "*"}
        status = self._ask(what, "PUT", key, body=content, headers=only_if_new)
        if status in {409, 412}:
            raise VersionExists(f"{self._place}/{key} is stored already")
        if status == 404:
            raise self._missing_bucket(what)
        self._require_success(what, status)

    def get(self, key: str) -> bytes:
        """The content of an object.

        Raises:
            UnknownArtifact: there is none of that name.
            CorruptArtifact: it is longer than anything that is stored here.
        """
        with self._translated(f"read {key}"):
            answer = self._client.get_object(bucket_name=self.name, object_name=key)
            try:
                size = int(answer.headers.get("Content-Length", 0))
                if size > MAX_OBJECT_BYTES:
                    raise CorruptArtifact(
                        f"{self._place}/{key} holds {size:,} bytes, at most {MAX_OBJECT_BYTES:,}"
                    )
                content: bytes = answer.read()
                return content
            finally:
                answer.close()
                answer.release_conn()

    def listed(self, prefix: str) -> Iterator[Listed]:
        """Every object whose name begins so."""
        with self._translated(f"list {prefix}"):
            for one in self._client.list_objects(
                bucket_name=self.name, prefix=prefix, recursive=True
            ):
                assert one.object_name is not None
                assert one.last_modified is not None
                yield Listed(one.object_name, one.size or 0, one.last_modified)

    def remove(self, key: str) -> None:
        """Delete an object; one that is not there is no error."""
        with self._translated(f"delete {key}"):
            self._client.remove_object(bucket_name=self.name, object_name=key)

    def remove_versions(self, key: str, *, keep_newest: bool = False) -> None:
        """Delete every version of an object that the bucket keeps, or all but the newest."""
        with self._translated(f"delete {key}"):
            found = self._client.list_objects(
                bucket_name=self.name, prefix=key, recursive=True, include_version=True
            )
            versions = [
                DeleteObject(key, one.version_id)
                for one in found
                if one.object_name == key and not (keep_newest and _is_newest(one))
            ]
            errors = self._client.remove_objects(bucket_name=self.name, delete_object_list=versions)
            for error in errors:
                raise StoreUnavailable(f"delete {key}: {self._place}: {error.code} {error.message}")

    def presigned_url(self, key: str, expires: timedelta) -> str:
        """An address from which anybody can read the object until then."""
        with self._translated(f"presign {key}"):
            url: str = self._client.presigned_get_object(
                bucket_name=self.name, object_name=key, expires=expires
            )
            return url

    def lock(self, key: str, until: datetime) -> None:
        """Let nobody but an administrator delete the object before then.

        Raises:
            ArtifactError: the bucket was made without object lock.
        """
        with self._translated(f"lock {key}"):
            self._client.set_object_retention(
                bucket_name=self.name, object_name=key, config=Retention(GOVERNANCE, until)
            )

    # ---- the bucket itself ----------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the server has the bucket."""
        with self._translated("look for the bucket"):
            found: bool = self._client.bucket_exists(bucket_name=self.name)
            return found

    def prepare(self, *, object_lock: bool = False) -> bool:
        """Make the bucket if it is missing, encrypted if that is asked for; whether it was."""
        try:
            missing = not self.exists()
            with self._translated("make the bucket"):
                if missing:
                    self._client.make_bucket(bucket_name=self.name, object_lock=object_lock)
                if self._encrypted:
                    self._client.set_bucket_encryption(
                        bucket_name=self.name, config=SSEConfig(SseRule.new_sse_s3_rule())
                    )
        except MissingBucket as error:
            raise StoreUnavailable(str(error)) from error
        return missing

    def set_lifecycle(self, noncurrent_days: int) -> None:
        """Let the server forget replaced versions of objects, and uploads that never ended."""
        rules = _rules(noncurrent_days)
        with self._translated("set the lifecycle"):
            self._client.set_bucket_lifecycle(bucket_name=self.name, config=LifecycleConfig(rules))

    def lifecycle(self) -> list[str]:
        """The rules in force, one sentence each."""
        with self._translated("read the lifecycle"):
            found = self._client.get_bucket_lifecycle(bucket_name=self.name)
        return [] if found is None else [_sentence(rule) for rule in found.rules]

    def _ask(self, what: str, method: str, key: str, **request: Any) -> int:
        """The status of a request that the SDK has no call for.

        Repeated here, as urllib3 logs what it repeats: with the address, which is signed.
        """
        with self._translated(what):
            for attempt in range(RETRIES + 1):
                is_last = attempt == RETRIES
                url = self._client.get_presigned_url(
                    method, self.name, key, expires=timedelta(seconds=PRESIGNED_S)
                )
                try:
                    status = self._http.request(method, url, retries=False, **request).status
                except HTTPError:
                    if is_last:
                        raise
                else:
                    if is_last or status not in _BUSY:
                        return status
                sleep(BACKOFF_S * (2**attempt + random()))  # noqa: S311  no secret
        raise AssertionError("the last attempt returns or raises")

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            raise self._told(what, error) from error
        except (MinioException, HTTPError) as error:
            raise StoreUnavailable(f"{what}: {self._place} does not answer: {error}") from error
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise NoSpace(f"{what}: this machine's disk is full") from error
            raise StoreUnavailable(f"{what}: {self._place}: {error}") from error

    def _told(self, what: str, error: S3Error) -> ArtifactError:
        code = error.code or ""
        if code in _CREDENTIALS:
            return BadCredentials(_refused(what, self._place, code))
        if code == "NoSuchBucket":
            return self._missing_bucket(what)
        if code in _MISSING:
            return UnknownArtifact(f"{what}: {self._place} has no such object")
        if code in _FULL:
            return NoSpace(f"{what}: {self._place} has no space left ({code})")
        return StoreUnavailable(f"{what}: {self._place}: {code} {error.message}")

    def _require_success(self, what: str, status: int) -> None:
        """Of an answer without the SDK, which has no code."""
        if status in {401, 403}:
            raise BadCredentials(_refused(what, self._place, str(status)))
        if status == 507:
            raise NoSpace(f"{what}: {self._place} has no space left")
        if status >= 400:
            raise StoreUnavailable(f"{what}: {self._place} answered {status}")

    def _missing_bucket(self, what: str) -> MissingBucket:
        return MissingBucket(
            f"{what}: {self._place} does not exist; `rag-mlops artifacts init` makes it"
        )


def lifecycle_rules(noncurrent_days: int) -> list[str]:
    """What `set_lifecycle` sets, one sentence each."""
    return [_sentence(rule) for rule in _rules(noncurrent_days)]


def _rules(noncurrent_days: int) -> list[Rule]:
    return [
        Rule(
            status=ENABLED,
            rule_filter=Filter(prefix=""),
            rule_id="rag-mlops-replaced",
            noncurrent_version_expiration=NoncurrentVersionExpiration(
                noncurrent_days=noncurrent_days
            ),
        ),
        Rule(
            status=ENABLED,
            rule_filter=Filter(prefix=""),
            rule_id="rag-mlops-unfinished",
            abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(
                days_after_initiation=1
            ),
        ),
    ]


def _refused(what: str, place: str, code: str) -> str:
    return f"{what}: {place} refused the access key ({code}); see MLOPS_MINIO_ACCESS_KEY"


def _is_newest(found: Any) -> bool:
    """Where the bucket keeps no versions there is only the newest."""
    return found.is_latest in (None, True, "true")


def _sentence(rule: Rule) -> str:
    parts = []
    if (replaced := rule.noncurrent_version_expiration) is not None:
        parts.append(f"replaced versions expire after {replaced.noncurrent_days} days")
    if (unfinished := rule.abort_incomplete_multipart_upload) is not None:
        parts.append(f"unfinished uploads end after {unfinished.days_after_initiation} days")
    return f"{rule.rule_id}: {', '.join(parts)}"
