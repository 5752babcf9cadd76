"""One real engine per test module, in a process of its own, and a new database per test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from mlops.config import MinioSettings
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.migrations import migrate
from mlops.feature_store.settings import ClickHouseSettings
from tests.modules import port_of, serving

_databases = count(1)


@pytest.fixture(scope="module")
def engine_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="module")
def engine_port(engine_directory: Path) -> Iterator[int]:
    with serving("mlops.local.clickhouse", "--path", str(engine_directory / "db")) as address:
        yield port_of(address)


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioSettings]:
    """A real S3 server, and a bucket on it."""
    keys = {"MLOPS_MINIO_ACCESS_KEY": "archive", "MLOPS_MINIO_SECRET_KEY": "archive-secret"}
    arguments = ("--bucket", "features", "--path", str(tmp_path_factory.mktemp("s3")))
    with serving("mlops.local.s3", *arguments, **keys) as address:
        yield MinioSettings(
            endpoint=address,
            access_key=keys["MLOPS_MINIO_ACCESS_KEY"],
            secret_key=keys["MLOPS_MINIO_SECRET_KEY"],
            bucket_name="features",
            secure=False,
            encrypted=False,
            cache_dir=tmp_path_factory.mktemp("cache"),
            cache_bytes=0,
        )


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
