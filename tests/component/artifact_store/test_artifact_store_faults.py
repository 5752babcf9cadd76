"""The S3 server dies and comes back, and runs out of disk."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from mlops.artifact_store import MinIOArtifactStore, NoSpace, StoreUnavailable
from mlops.config import MinioSettings

SMALL_DISK_BYTES = 96 * 1024**2


class Server(Protocol):
    def start(self) -> None: ...
    def kill(self) -> None: ...


@contextmanager
def mounted(where: Path) -> Iterator[Path]:
    """A small file system of its own."""
    where.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", str(where)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine mounts no file system")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


@pytest.fixture
def small_server_disk(tmp_path: Path) -> Iterator[Path]:
    """Where the server keeps its objects, mounted before it starts."""
    with mounted(tmp_path / "objects") as where:
        yield where


@pytest.fixture
def small_local_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small") as where:
        yield where


def test_a_server_killed_in_the_middle_leaves_no_version_and_the_upload_goes_on(
    own_server: Server, own_store: MinIOArtifactStore, model: Path, tmp_path: Path
) -> None:
    def kill_halfway(done: int, total: int) -> None:
        if done > total / 2 and not killed:
            killed.append(done)
            own_server.kill()

    killed: list[int] = []
    with pytest.raises(StoreUnavailable):
        own_store.upload_model(model, "m", "1.0.0", progress=kill_halfway)
    assert killed

    own_server.start()

    assert own_store.list_models() == []
    own_store.upload_model(model, "m", "1.0.0")
    own_store.download_model("m", "1.0.0", tmp_path / "got")
    assert (tmp_path / "got/weights.bin").read_bytes() == (model / "weights.bin").read_bytes()


def test_a_full_server_is_an_error_and_what_it_holds_stays(
    small_server_disk: Path, own_store: MinIOArtifactStore, model: Path, tmp_path: Path
) -> None:
    own_store.upload_model(model / "run.sh", "m", "1.0.0")
    huge = tmp_path / "huge.bin"
    huge.write_bytes(os.urandom(2 * SMALL_DISK_BYTES))

    with pytest.raises(StoreUnavailable):  # SeaweedFS does not say why; MinIO does
        own_store.upload_model(huge, "m", "2.0.0")

    assert [one.version for one in own_store.list_models()] == ["1.0.0"]
    own_store.download_model("m", "1.0.0", tmp_path / "got")


def test_a_full_disk_here_is_an_error_of_its_own(
    small_local_disk: Path, store: MinIOArtifactStore, tmp_path: Path
) -> None:
    huge = tmp_path / "huge.bin"
    huge.write_bytes(os.urandom(2 * SMALL_DISK_BYTES))
    store.upload_model(huge, "m", "1.0.0", compress=False)

    with pytest.raises(NoSpace, match="this machine's disk is full"):
        store.download_model("m", "1.0.0", small_local_disk / "got")

    assert not (small_local_disk / "got").exists()


def test_a_full_disk_costs_the_cache_before_the_download(
    small_local_disk: Path, settings: MinioSettings, store: MinIOArtifactStore, tmp_path: Path
) -> None:
    file = tmp_path / "half.bin"
    file.write_bytes(os.urandom(SMALL_DISK_BYTES * 5 // 8))
    store.upload_model(file, "m", "1.0.0", compress=False)
    cached = MinIOArtifactStore(replace(settings, cache_dir=small_local_disk / "cache"))

    cached.download_model("m", "1.0.0", small_local_disk / "got")

    assert (small_local_disk / "got").read_bytes() == file.read_bytes()


def test_a_cache_that_finds_no_room_is_no_error(
    small_local_disk: Path, settings: MinioSettings, store: MinIOArtifactStore, tmp_path: Path
) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(os.urandom(9 * 1024**2))
    store.upload_model(file, "m", "1.0.0", compress=False)
    (small_local_disk / "filler").write_bytes(bytes(SMALL_DISK_BYTES - 64 * 1024))
    cached = MinIOArtifactStore(replace(settings, cache_dir=small_local_disk / "cache"))

    cached.download_model("m", "1.0.0", tmp_path / "got")

    assert (tmp_path / "got").read_bytes() == file.read_bytes()
    assert not [one for one in (small_local_disk / "cache").rglob("*") if one.is_file()]


def test_metadata_that_json_does_not_hold_is_refused_before_anything_is_sent(
    store: MinIOArtifactStore, model: Path
) -> None:
    with pytest.raises(ValueError, match="metadata: expected what JSON holds"):
        store.upload_model(model, "m", "1.0.0", {"settings": object()})
    assert not list(store.bucket.listed("chunks/"))


def test_a_version_deleted_while_they_are_listed_is_left_out(
    store: MinIOArtifactStore, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.0.0", "1.1.0"):
        store.upload_model(model, "m", version)
    listed = list(store.bucket.listed("models/"))
    store.delete_version("m", "1.1.0")
    monkeypatch.setattr(store.bucket, "listed", lambda _: iter(listed))

    assert [one.version for one in store.list_models()] == ["1.0.0"]
