"""Models and their files in an S3 bucket: immutable versions, each there whole or not at all."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from mlops.artifact_store.assembling import (
    Place,
    disk_errors,
    lay_out,
    lies_there,
    lies_whole_at,
)
from mlops.artifact_store.bucket import Bucket
from mlops.artifact_store.cache import ChunkCache
from mlops.artifact_store.chunks import (
    Source,
    pack,
    read_chunks,
    sources,
    unpack,
)
from mlops.artifact_store.errors import (
    CorruptArtifact,
    UnknownArtifact,
    VersionExists,
)
from mlops.artifact_store.manifest import (
    ArtifactManifest,
    Chunk,
    FileEntry,
    check_name,
    decode,
    manifest_key,
)
from mlops.artifact_store.parallel import PARALLEL_CHUNKS, Progress, Told, in_parallel
from mlops.config import MinioSettings, read_config

UNREFERENCED_AFTER: Final = timedelta(days=1)
"""A chunk in no manifest is younger than that while its upload may still be running."""

MAX_PRESIGNED: Final = timedelta(days=7)
"""S3's own bound."""


class StoredModel(msgspec.Struct, frozen=True, kw_only=True):
    """A version in a listing."""

    model_name: str
    version: str
    uri: str
    size_bytes: int
    created_at: datetime
    metadata: dict[str, Any]
    digest: str


class PlannedUpload(msgspec.Struct, frozen=True, kw_only=True):
    """What an upload would store."""

    uri: str
    files: int
    size_bytes: int
    is_stored: bool
    """Already, with files of the same names and sizes."""


class MinIOArtifactStore:
    """Every call may raise `StoreUnavailable`, `BadCredentials` or `MissingBucket`. Thread-safe.

    ```python
    store = MinIOArtifactStore()
    uri = store.upload_model("out/model", "rag_embedding_model", "1.2.3", {"mrr": 0.53})
    store.download_model("rag_embedding_model", "1.2.3", "/srv/model")
    ```
    """

    def __init__(self, settings: MinioSettings | None = None) -> None:
        """`settings` default to what `MLOPS_MINIO_*` says. Nothing is connected yet."""
        settings = settings or read_config().minio
        self.bucket = Bucket(settings)
        self._cache = ChunkCache(settings.cache_dir, settings.cache_bytes)

    # ---- storing --------------------------------------------------------------------------------

    def upload_model(
        self,
        model_path: Path | str,
        model_name: str,
        model_version: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        compress: bool = True,
        lock_for: timedelta | None = None,
        progress: Progress | None = None,
    ) -> str:
        """Store a file or folder as one version; its `s3://` address.

        Chunks that are there already, of this upload before it broke off or of another version,
        are not sent again. Storing the same content under the same version again changes nothing.

        Args:
            model_path: a file, or a folder with everything in it.
            model_name: letters, digits and `._-`.
            model_version: the same; never stored twice with different content.
            metadata: anything that JSON holds; kept with the version.
            compress: with zstd, chunk by chunk, where that pays.
            lock_for: let nobody delete it before then (the bucket needs object lock).
            progress: told how far it is.

        Raises:
            FileNotFoundError: nothing lies at `model_path`, or a link below it leads nowhere.
            ValueError: a name, or `metadata`, is not as above; nothing was stored.
            VersionExists: this version holds something else.
            NoSpace: the server's disk is full.
        """
        files = _files(Path(model_path), model_name, model_version)
        metadata = _as_json_has_it(metadata or {})
        told = Told(progress, sum(one.size for one in files))
        manifest = ArtifactManifest(
            model=model_name,
            version=model_version,
            created_at=datetime.now(UTC),
            metadata=metadata,
            is_folder=Path(model_path).is_dir(),
            files=tuple(self._store_file(one, compress=compress, told=told) for one in files),
        )
        key = manifest_key(model_name, model_version)
        try:
            self.bucket.put_new(key, msgspec.json.encode(manifest))
        except VersionExists as error:
            stored = self.manifest(model_name, model_version)
            if stored.digest != manifest.digest:
                raise VersionExists(_other_content(stored)) from error
            manifest = stored  # its chunks may be compressed otherwise
        if lock_for is not None:
            self._lock(manifest, datetime.now(UTC) + lock_for)
        return self._uri(model_name, model_version)

    def check_upload(
        self, model_path: Path | str, model_name: str, model_version: str
    ) -> PlannedUpload:
        """What `upload_model` would store; nothing is sent.

        Raises:
            FileNotFoundError: nothing lies at `model_path`.
            VersionExists: this version is stored, with other files or other sizes.
        """
        files = _files(Path(model_path), model_name, model_version)
        planned = PlannedUpload(
            uri=self._uri(model_name, model_version),
            files=len(files),
            size_bytes=sum(one.size for one in files),
            is_stored=self.bucket.has(manifest_key(model_name, model_version)),
        )
        if planned.is_stored:
            stored = self.manifest(model_name, model_version)
            if {one.path: one.size for one in stored.files} != {x.name: x.size for x in files}:
                raise VersionExists(_other_content(stored))
        return planned

    def _store_file(self, source: Source, *, compress: bool, told: Told) -> FileEntry:
        def store(content: bytes) -> Chunk:
            piece = pack(content, compress=compress)
            if not self.bucket.has(piece.chunk.key):
                self.bucket.put(piece.chunk.key, piece.stored)
            told.done(len(content))
            return piece.chunk

        chunks = tuple(in_parallel(store, read_chunks(source.path)))
        if sum(chunk.size for chunk in chunks) != source.size:
            raise CorruptArtifact(f"{source.path} changed while it was stored; nothing was kept")
        return FileEntry(
            path=source.name, size=source.size, executable=source.executable, chunks=chunks
        )

    def _lock(self, manifest: ArtifactManifest, until: datetime) -> None:
        keys = {chunk.key for file in manifest.files for chunk in file.chunks}
        for key in (manifest_key(manifest.model, manifest.version), *sorted(keys)):
            self.bucket.lock(key, until)

    # ---- bringing back --------------------------------------------------------------------------

    def download_model(
        self,
        model_name: str,
        model_version: str,
        download_path: Path | str,
        *,
        progress: Progress | None = None,
    ) -> bool:
        """Bring a version back: a folder where a folder was stored, else a file. Always True.

        Every chunk is checked against its digest. What is there appears whole, by renaming; a
        download that broke off goes on where it was. If the same content lies there already,
        nothing is done.

        Raises:
            UnknownArtifact: no such version.
            CorruptArtifact: what is stored is not what was uploaded; nothing appears.
            DestinationExists: something else lies at `download_path`; an empty folder does not.
            NoSpace: this machine's disk is full.
        """
        manifest = self.manifest(model_name, model_version)
        target = Path(download_path)
        if lies_whole_at(target, manifest):
            return True
        partial = target.with_name(f".{target.name}.{manifest.digest[:16]}.partial")
        with disk_errors(f"download to {target}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._assemble_with_room(manifest, partial, progress)
                partial.rename(target)
            except OSError:
                # Another download of it, at the same time, puts the same bytes in the same places.
                if not lies_whole_at(target, manifest):
                    raise
                shutil.rmtree(partial, ignore_errors=True)
        self._cache.trim()
        return True

    def _assemble_with_room(
        self, manifest: ArtifactManifest, root: Path, progress: Progress | None
    ) -> None:
        """A full disk costs the cache first: on the same disk it is what made it full."""
        try:
            self._assemble(manifest, root, Told(progress, manifest.size))
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._cache.clear():
                raise
            self._assemble(manifest, root, Told(progress, manifest.size))  # goes on where it was

    def _assemble(self, manifest: ArtifactManifest, root: Path, told: Told) -> None:
        def bring(place: Place) -> None:
            if not (place.is_begun and lies_there(place)):
                with place.path.open("r+b") as file:
                    file.seek(place.offset)
                    file.write(self._content(place.chunk))
            told.done(place.chunk.size)

        for _ in in_parallel(bring, lay_out(manifest, root)):
            pass

    def _content(self, chunk: Chunk) -> bytes:
        cached = self._cache.get(chunk)
        if cached is not None:
            return cached
        try:
            stored = self.bucket.get(chunk.key)
        except UnknownArtifact as error:
            raise CorruptArtifact(f"{chunk.key} is missing from the store") from error
        content = unpack(chunk, stored)
        self._cache.put(chunk, content)
        return content

    # ---- looking --------------------------------------------------------------------------------

    def manifest(self, model_name: str, model_version: str) -> ArtifactManifest:
        """What a version is made of.

        Raises:
            UnknownArtifact: no such version.
            CorruptArtifact: its manifest cannot be read.
        """
        key = manifest_key(check_name("model", model_name), check_name("version", model_version))
        try:
            content = self.bucket.get(key)
        except UnknownArtifact as error:
            raise UnknownArtifact(f"{model_name} {model_version} is not stored") from error
        try:
            return decode(content)
        except ValueError as error:
            raise CorruptArtifact(f"{key}: {error}") from error

    def list_models(self, model_name: str | None = None) -> list[StoredModel]:
        """Every version of a model, or of all models; by name, newest first.

        Raises:
            CorruptArtifact: a manifest cannot be read.
        """
        found = self._manifests(f"{check_name('model', model_name)}/" if model_name else "")
        found.sort(key=lambda one: one.created_at, reverse=True)
        return [
            StoredModel(
                model_name=one.model,
                version=one.version,
                uri=self._uri(one.model, one.version),
                size_bytes=one.size,
                created_at=one.created_at,
                metadata=one.metadata,
                digest=one.digest,
            )
            for one in sorted(found, key=lambda one: one.model)
        ]

    def _manifests(self, model: str) -> list[ArtifactManifest]:
        """Of every version whose key goes on so; without those deleted while they are read."""

        def read(key: str) -> ArtifactManifest | None:
            try:
                return self.manifest(*key.split("/")[1:3])
            except UnknownArtifact:
                return None

        keys = [one.key for one in self.bucket.listed(f"models/{model}")]
        with ThreadPoolExecutor(PARALLEL_CHUNKS) as pool:
            found = pool.map(read, [key for key in keys if key.endswith("/manifest.json")])
            return [one for one in found if one is not None]

    def presigned_urls(
        self, model_name: str, model_version: str, path: str, expires: timedelta
    ) -> list[str]:
        """Addresses that anybody can read until then; what they hold, joined, is the file.

        A chunk that was stored compressed is one zstd frame, and joined frames are a zstd file.

        Raises:
            UnknownArtifact: no such file.
            ValueError: `expires` is not within S3's bound of seven days.
        """
        if not timedelta(0) < expires <= MAX_PRESIGNED:
            raise ValueError(f"expires {expires} is outside 0..{MAX_PRESIGNED}")
        manifest = self.manifest(model_name, model_version)
        file = next((one for one in manifest.files if one.path == path), None)
        if file is None:
            raise UnknownArtifact(f"{model_name} {model_version} has no file {path!r}")
        return [self.bucket.presigned_url(chunk.key, expires) for chunk in file.chunks]

    # ---- forgetting -----------------------------------------------------------------------------

    def delete_version(self, model_name: str, model_version: str) -> None:
        """Forget a version; its chunks go with the next `collect_garbage` if no other has them.

        Raises:
            UnknownArtifact: no such version.
            CorruptArtifact: its manifest cannot be read.
        """
        self.manifest(model_name, model_version)
        self.bucket.remove(manifest_key(model_name, model_version))

    def collect_garbage(self, *, now: datetime | None = None) -> int:
        """Delete chunks that belong to no version and are a day old; how many.

        Run it while nothing is uploaded: an upload that was content with a chunk of this kind, as
        it was there, makes a version that lacks it (`download_model` says so).

        Raises:
            CorruptArtifact: a manifest cannot be read, so what it needs is not known.
        """
        garbage = self.garbage(now=now)
        for key in garbage:
            self.bucket.remove(key)
        return len(garbage)

    def garbage(self, *, now: datetime | None = None) -> list[str]:
        """Keys of the chunks that `collect_garbage` would delete."""
        oldest = (now or datetime.now(UTC)) - UNREFERENCED_AFTER
        old = [one.key for one in self.bucket.listed("chunks/") if one.modified_at < oldest]
        used = {
            chunk.key for one in self._manifests("") for file in one.files for chunk in file.chunks
        }
        return [key for key in old if key not in used]

    def _uri(self, model_name: str, model_version: str) -> str:
        return f"s3://{self.bucket.name}/models/{model_name}/{model_version}"


def _files(path: Path, model_name: str, model_version: str) -> list[Source]:
    check_name("model", model_name)
    check_name("version", model_version)
    return sources(path)


def _as_json_has_it(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Looked at before anything is sent: it is written down at the very end."""
    try:
        found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(metadata))
    except (TypeError, ValueError) as error:
        raise ValueError(f"metadata: expected what JSON holds: {error}") from error
    return found


def _other_content(stored: ArtifactManifest) -> str:
    return (
        f"{stored.model} {stored.version} was stored at {stored.created_at:%F %T} with other "
        "content; versions are never overwritten"
    )
