"""One real engine per test module, in a process of its own, and a new database per test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from mlops.config import MinioSettings
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.migrations import migrate
from mlops.feature_store.settings import ClickHouseSettings

ENGINE = (sys.executable, "-W", "ignore::SyntaxWarning", "-m", "mlops.local.clickhouse")

_databases = count(1)


@pytest.fixture(scope="module")
def engine_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="module")
def engine_port(engine_directory: Path) -> Iterator[int]:
    directory = engine_directory
    process = subprocess.Popen(
        [*ENGINE, "--path", str(directory / "db"), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("ready http://127.0.0.1:"), line
        yield int(line.rsplit(":", 1)[1])
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioSettings]:
    """A real S3 server, and a bucket on it."""
    keys = {"MLOPS_MINIO_ACCESS_KEY": "archive", "MLOPS_MINIO_SECRET_KEY": "archive-secret"}
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops.local.s3", "--port", "0", "--bucket", "features",
         "--path", str(tmp_path_factory.mktemp("s3"))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **keys},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("ready http://"), line
        yield MinioSettings(
            endpoint=line.removeprefix("ready http://").strip(),
            access_key=keys["MLOPS_MINIO_ACCESS_KEY"],
            secret_key=keys["MLOPS_MINIO_SECRET_KEY"],
            bucket_name="features",
            secure=False,
            encrypted=False,
            cache_dir=tmp_path_factory.mktemp("cache"),
            cache_bytes=0,
        )
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stdout.close()


@pytest.fixture
async def settings(engine_port: int) -> ClickHouseSettings:
    """A migrated database that no other test uses."""
    settings = ClickHouseSettings(
        host="127.0.0.1", port=engine_port, database=f"test_{next(_databases)}"
    )
    await migrate(settings)
    return settings


@pytest.fixture
async def feature_log(settings: ClickHouseSettings) -> AsyncIterator[FeatureLog]:
    log = await FeatureLog.connect(settings)
    yield log
    await log.close()
