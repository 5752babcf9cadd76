"""The artifact store against a real S3 server."""

from __future__ import annotations

import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import zstandard
from minio import Minio

from mlops.artifact_store import (
    BadCredentials,
    CorruptArtifact,
    DestinationExists,
    MinIOArtifactStore,
    MissingBucket,
    StoreUnavailable,
    UnknownArtifact,
    VersionExists,
)
from mlops.artifact_store.chunks import is_content, read_chunks
from mlops.artifact_store.manifest import manifest_key
from mlops.config import MinioSettings

NAME = "rag_embedding_model"


class BrokeOffError(Exception):
    pass


def break_off(done: int, total: int) -> None:
    if done > total / 2:
        raise BrokeOffError


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(one for one in folder.rglob("*") if one.is_file())
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in files}


def test_a_folder_comes_back_as_it_was(
    store: MinIOArtifactStore, model: Path, tmp_path: Path, settings: MinioSettings
) -> None:
    uri = store.upload_model(model, NAME, "1.2.3", {"accuracy": 0.85, "trained": "2026-01-15"})
    target = tmp_path / "deep/downloaded"

    assert store.download_model(NAME, "1.2.3", target)

    assert uri == f"s3://{settings.bucket_name}/models/{NAME}/1.2.3"
    assert contents(target) == contents(model)
    assert (target / "run.sh").stat().st_mode & 0o100
    assert store.download_model(NAME, "1.2.3", target), "it lies there already"
    (one,) = store.list_models(NAME)
    assert (one.version, one.uri) == ("1.2.3", uri)
    assert one.metadata == {"accuracy": 0.85, "trained": "2026-01-15"}
    assert one.size_bytes == sum(map(len, contents(model).values()))


def test_a_single_file_comes_back_as_a_file(
    store: MinIOArtifactStore, model: Path, tmp_path: Path
) -> None:
    store.upload_model(model / "weights.bin", NAME, "1.0.0")

    store.download_model(NAME, "1.0.0", tmp_path / "w.bin")

    assert (tmp_path / "w.bin").read_bytes() == (model / "weights.bin").read_bytes()


def test_what_compresses_is_compressed_and_what_does_not_is_not(
    store: MinIOArtifactStore, model: Path
) -> None:
    store.upload_model(model, NAME, "1.0.0")
    by_path = {file.path: file for file in store.manifest(NAME, "1.0.0").files}

    assert {c.compression for c in by_path["weights.bin"].chunks} == {"none"}
    (text,) = by_path["tokenizer/vocabulary.txt"].chunks
    assert text.compression == "zstd"
    assert by_path["empty"].chunks == ()
    (stored,) = [one for one in store.bucket.listed("chunks/") if one.key == text.key]
    assert stored.size < text.size / 10


def test_a_version_is_never_overwritten_and_storing_it_again_is_no_error(
    store: MinIOArtifactStore, model: Path
) -> None:
    first = store.upload_model(model, NAME, "1.0.0", {"note": "first"})

    assert store.upload_model(model, NAME, "1.0.0", {"note": "again"}) == first
    (model / "run.sh").write_text("#!/bin/sh\nrm\n")
    with pytest.raises(VersionExists, match="never overwritten"):
        store.upload_model(model, NAME, "1.0.0")

    assert store.manifest(NAME, "1.0.0").metadata == {"note": "first"}


def test_of_two_uploads_of_one_version_one_wins(store: MinIOArtifactStore, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"m{number}").write_bytes(bytes([number]) * 1000)

    def upload(number: int) -> int | None:
        try:
            store.upload_model(tmp_path / f"m{number}", NAME, "1.0.0")
        except VersionExists:
            return None
        return number

    with ThreadPoolExecutor(4) as pool:
        winners = [number for number in pool.map(upload, range(4)) if number is not None]

    assert len(winners) == 1
    store.download_model(NAME, "1.0.0", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == bytes([winners[0]]) * 1000


def test_a_broken_off_upload_is_not_listed_and_goes_on_where_it_was(
    store: MinIOArtifactStore, model: Path
) -> None:
    with pytest.raises(BrokeOffError):
        store.upload_model(model, NAME, "1.0.0", progress=break_off)
    assert store.list_models() == []
    before = {one.key: one.modified_at for one in store.bucket.listed("chunks/")}
    assert before

    store.upload_model(model, NAME, "1.0.0")

    after = {one.key: one.modified_at for one in store.bucket.listed("chunks/")}
    assert before.items() <= after.items(), "a chunk that was there was sent again"


def test_versions_share_what_they_have_in_common(store: MinIOArtifactStore, model: Path) -> None:
    store.upload_model(model, NAME, "1.0.0")
    chunks = {one.key for one in store.bucket.listed("chunks/")}
    (model / "run.sh").write_text("#!/bin/sh\nexit 1\n")

    store.upload_model(model, NAME, "1.0.1")

    assert len({one.key for one in store.bucket.listed("chunks/")} - chunks) == 1


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_chunk_is_found_and_nothing_appears(
    store: MinIOArtifactStore, model: Path, tmp_path: Path, damage: str
) -> None:
    store.upload_model(model, NAME, "1.0.0")
    key = store.manifest(NAME, "1.0.0").files[-1].chunks[0].key
    content = store.bucket.get(key)
    match damage:
        case "changed":
            store.bucket.put(key, content[:-1] + bytes([content[-1] ^ 1]))
        case "cut":
            store.bucket.put(key, content[:100])
        case _:
            store.bucket.remove(key)

    with pytest.raises(CorruptArtifact, match="chunks/"):
        store.download_model(NAME, "1.0.0", tmp_path / "got")

    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 99}'])
def test_a_damaged_manifest_is_found(
    store: MinIOArtifactStore, model: Path, tmp_path: Path, content: bytes
) -> None:
    store.upload_model(model / "run.sh", NAME, "1.0.0")
    store.bucket.put(manifest_key(NAME, "1.0.0"), content)

    with pytest.raises(CorruptArtifact, match="manifest"):
        store.download_model(NAME, "1.0.0", tmp_path / "got")
    with pytest.raises(CorruptArtifact, match="manifest"):
        store.list_models(NAME)

    assert not list(tmp_path.glob(".got*"))


def test_a_download_that_broke_off_goes_on_where_it_was(
    settings: MinioSettings, store: MinIOArtifactStore, model: Path, tmp_path: Path
) -> None:
    store.upload_model(model, NAME, "1.0.0")
    uncached = MinIOArtifactStore(replace(settings, cache_bytes=0))

    with pytest.raises(BrokeOffError):
        uncached.download_model(NAME, "1.0.0", tmp_path / "got", progress=break_off)

    (partial,) = tmp_path.glob(".got.*.partial")
    assert not (tmp_path / "got").exists()
    brought = 0
    for file in store.manifest(NAME, "1.0.0").files:
        for chunk, content in zip(file.chunks, read_chunks(partial / file.path), strict=False):
            if is_content(chunk, content):
                store.bucket.remove(chunk.key)  # so it cannot be asked for again
                brought += 1
    assert brought

    uncached.download_model(NAME, "1.0.0", tmp_path / "got")

    assert contents(tmp_path / "got") == contents(model)


@pytest.mark.parametrize("path", ["", "weights.bin"], ids=["a folder", "a file"])
def test_of_two_downloads_to_one_place_neither_fails(
    store: MinIOArtifactStore, settings: MinioSettings, model: Path, tmp_path: Path, path: str
) -> None:
    """Model servers that share a folder fetch the same version at the same time."""
    store.upload_model(model / path, NAME, "1.0.0")
    overtaken: list[bool] = []

    def overtake(done: int, _: int) -> None:
        if not overtaken:
            overtaken.append(
                MinIOArtifactStore(settings).download_model(NAME, "1.0.0", tmp_path / "got")
            )

    assert store.download_model(NAME, "1.0.0", tmp_path / "got", progress=overtake)

    assert overtaken == [True]
    if path:
        assert (tmp_path / "got").read_bytes() == (model / path).read_bytes()
    else:
        assert contents(tmp_path / "got") == contents(model)
    assert not list(tmp_path.glob(".got*"))


def test_the_cache_answers_when_the_store_cannot_and_keeps_its_bound(
    settings: MinioSettings, store: MinIOArtifactStore, model: Path, tmp_path: Path
) -> None:
    store.upload_model(model, NAME, "1.0.0")
    store.download_model(NAME, "1.0.0", tmp_path / "first")
    for one in store.bucket.listed("chunks/"):
        store.bucket.remove(one.key)

    store.download_model(NAME, "1.0.0", tmp_path / "second")

    assert contents(tmp_path / "second") == contents(model)
    small = MinIOArtifactStore(replace(settings, cache_bytes=10 * 1024**2))
    small.download_model(NAME, "1.0.0", tmp_path / "third")
    kept = sum(one.stat().st_size for one in settings.cache_dir.rglob("*") if one.is_file())
    assert kept <= 10 * 1024**2


def test_a_spoiled_cache_is_not_believed(
    settings: MinioSettings, store: MinIOArtifactStore, model: Path, tmp_path: Path
) -> None:
    store.upload_model(model, NAME, "1.0.0")
    store.download_model(NAME, "1.0.0", tmp_path / "first")
    for one in settings.cache_dir.rglob("*"):
        if one.is_file():
            one.write_bytes(b"spoiled")

    store.download_model(NAME, "1.0.0", tmp_path / "second")

    assert contents(tmp_path / "second") == contents(model)


def test_nothing_of_the_users_is_overwritten(
    store: MinIOArtifactStore, model: Path, tmp_path: Path
) -> None:
    store.upload_model(model, NAME, "1.0.0")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")

    with pytest.raises(DestinationExists):
        store.download_model(NAME, "1.0.0", tmp_path / "mine")

    assert contents(tmp_path / "mine") == {"thesis.txt": b"precious"}


def test_an_empty_folder_gives_way(store: MinIOArtifactStore, model: Path, tmp_path: Path) -> None:
    store.upload_model(model, NAME, "1.0.0")
    (tmp_path / "made").mkdir()

    assert store.download_model(NAME, "1.0.0", tmp_path / "made")

    assert contents(tmp_path / "made") == contents(model)


def test_presigned_addresses_give_the_file_to_anybody(
    store: MinIOArtifactStore, model: Path
) -> None:
    store.upload_model(model, NAME, "1.0.0")
    hour = timedelta(hours=1)

    parts = [
        urllib.request.urlopen(url).read()
        for url in store.presigned_urls(NAME, "1.0.0", "weights.bin", hour)
    ]
    (text,) = store.presigned_urls(NAME, "1.0.0", "tokenizer/vocabulary.txt", hour)
    packed = urllib.request.urlopen(text).read()

    assert b"".join(parts) == (model / "weights.bin").read_bytes()
    assert zstandard.ZstdDecompressor().decompress(packed).startswith(b"retrieval\n")
    with pytest.raises(ValueError, match="outside"):
        store.presigned_urls(NAME, "1.0.0", "weights.bin", timedelta(days=8))
    with pytest.raises(UnknownArtifact, match="no file 'nothing'"):
        store.presigned_urls(NAME, "1.0.0", "nothing", hour)


def test_garbage_is_what_no_version_has_and_is_old(store: MinIOArtifactStore, model: Path) -> None:
    store.upload_model(model, NAME, "1.0.0")
    store.upload_model(model / "run.sh", NAME, "1.0.1")
    store.delete_version(NAME, "1.0.0")
    chunks = len(list(store.bucket.listed("chunks/")))

    assert store.collect_garbage() == 0, "an upload may still be running"
    assert store.collect_garbage(now=datetime.now(UTC) + timedelta(days=2)) == chunks - 1
    assert [one.version for one in store.list_models(NAME)] == ["1.0.1"]


def test_what_an_ordinary_client_sees(
    settings: MinioSettings, store: MinIOArtifactStore, model: Path
) -> None:
    store.upload_model(model, NAME, "1.0.0")
    client = Minio(
        endpoint=settings.endpoint,
        access_key=settings.access_key,
        secret_key=settings.secret_key,
        secure=False,
    )

    found = client.list_objects(bucket_name=settings.bucket_name, prefix="models/", recursive=True)

    assert [one.object_name for one in found] == [manifest_key(NAME, "1.0.0")]


def test_each_failure_is_its_own(settings: MinioSettings, model: Path) -> None:
    def upload(changed: MinioSettings) -> None:
        MinIOArtifactStore(changed).upload_model(model / "run.sh", NAME, "1.0.0")

    with pytest.raises(MissingBucket, match="rag-mlops artifacts init"):
        upload(settings)
    MinIOArtifactStore(settings).bucket.prepare()
    with pytest.raises(BadCredentials):
        upload(replace(settings, secret_key="wrong"))
    with pytest.raises(BadCredentials):
        upload(replace(settings, access_key="nobody"))
    with pytest.raises(StoreUnavailable, match="does not answer"):
        upload(replace(settings, endpoint="127.0.0.1:9"))
    with pytest.raises(UnknownArtifact, match=r"9\.9\.9 is not stored"):
        MinIOArtifactStore(settings).manifest(NAME, "9.9.9")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        MinIOArtifactStore(settings).upload_model(model / "no", NAME, "1.0.0")
    with pytest.raises(ValueError, match="is not a name"):
        MinIOArtifactStore(settings).upload_model(model, "../up", "1.0.0")


def test_encryption_and_object_lock_are_asked_for(
    settings: MinioSettings, model: Path, tmp_path: Path
) -> None:
    locked = MinIOArtifactStore(
        replace(settings, encrypted=True, bucket_name=f"{settings.bucket_name}-locked")
    )
    locked.bucket.prepare(object_lock=True)

    locked.upload_model(model / "run.sh", NAME, "1.0.0", lock_for=timedelta(days=1))

    client = Minio(
        endpoint=settings.endpoint,
        access_key=settings.access_key,
        secret_key=settings.secret_key,
        secure=False,
    )
    bucket = f"{settings.bucket_name}-locked"
    retention = client.get_object_retention(
        bucket_name=bucket, object_name=manifest_key(NAME, "1.0.0")
    )
    assert retention is not None
    assert retention.retain_until_date > datetime.now(UTC) + timedelta(hours=23)
    assert client.get_bucket_encryption(bucket_name=bucket) is not None
    locked.download_model(NAME, "1.0.0", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == (model / "run.sh").read_bytes()


def test_the_lifecycle_is_set_and_shown(store: MinIOArtifactStore) -> None:
    assert store.bucket.lifecycle() == []

    store.bucket.set_lifecycle(noncurrent_days=30)

    assert any("30 days" in sentence for sentence in store.bucket.lifecycle())
