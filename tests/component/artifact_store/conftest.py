"""One real S3 server for all tests here; every test has a bucket of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from mlops.artifact_store import MinIOArtifactStore
from mlops.config import MinioSettings
from mlops.local.processes import Command, Started, kill, start, stop

ACCESS_KEY, SECRET_KEY = "test-access", "test-secret-key"

_numbers = count(1)


class S3Server:
    """A server that a test may kill; it comes back on the same port with the same data."""

    def __init__(self, directory: Path, objects: Path) -> None:
        self._directory = directory
        self._objects = objects
        self._process: Started | None = None
        self.url = ""

    def start(self) -> None:
        environment = dict(os.environ) | {
            "MLOPS_MINIO_ACCESS_KEY": ACCESS_KEY,
            "MLOPS_MINIO_SECRET_KEY": SECRET_KEY,
        }
        port = self.url.rpartition(":")[2] or "0"
        arguments = ["mlops.local.s3", "--path", str(self._objects), "--port", port]
        command = Command(name="s3", arguments=arguments, environment=environment)
        self._process = start(command, self._directory)
        self.url = self._process.urls[0]

    def kill(self) -> None:
        """As a crash would: the server dies with the process that watches it."""
        assert self._process is not None
        kill(self._process)
        os.waitpid(self._process.pid, 0)
        self._process = None

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            stop([process], lambda: os.waitpid(process.pid, os.WNOHANG))


def settings_for(url: str, bucket: str, cache_dir: Path) -> MinioSettings:
    return MinioSettings(
        endpoint=url.removeprefix("http://"),
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        bucket_name=bucket,
        secure=False,
        encrypted=False,
        cache_dir=cache_dir,
        cache_bytes=64 * 1024**2,
    )


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("s3")
    server = S3Server(directory, directory / "objects")
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[S3Server]:
    """A server of this test's own, not started yet."""
    server = S3Server(tmp_path, tmp_path / "objects")
    yield server
    server.stop()


@pytest.fixture
def own_store(own_server: S3Server, tmp_path: Path) -> MinIOArtifactStore:
    """A store on that server, which is started for it."""
    own_server.start()
    store = MinIOArtifactStore(settings_for(own_server.url, "models", tmp_path / "cache"))
    store.bucket.prepare()
    return store


@pytest.fixture
def settings(s3_url: str, tmp_path: Path) -> MinioSettings:
    return settings_for(s3_url, f"bucket-{next(_numbers)}", tmp_path / "cache")


@pytest.fixture
def store(settings: MinioSettings) -> MinIOArtifactStore:
    store = MinIOArtifactStore(settings)
    store.bucket.prepare()
    return store


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a large file that does not compress, a text that does, and an empty one."""
    folder = tmp_path / "model"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(os.urandom(20 * 1024**2))
    (folder / "tokenizer/vocabulary.txt").write_text("retrieval\n" * 100_000)
    (folder / "empty").touch()
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    return folder
