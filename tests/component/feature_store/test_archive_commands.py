"""`rag-mlops archive` and `erase` as they are typed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet

from cli.main import main
from mlops.config import MinioSettings
from mlops.feature_store import ClickHouseFeatureStore
from mlops.feature_store.settings import ClickHouseSettings

OF_ONE_PERSON = {"rows": 5, "evaluations": 0, "dead_letters": 0, "archived": 5, "partitions": 1}
OLD = datetime.now(UTC).replace(hour=12, minute=0) - timedelta(days=40)


@pytest.fixture
def typed(
    settings: ClickHouseSettings,
    s3_server: MinioSettings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Any:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "MLOPS_CLICKHOUSE_HOST": settings.host,
        "MLOPS_CLICKHOUSE_PORT": str(settings.port),
        "MLOPS_CLICKHOUSE_DATABASE": settings.database,
        "MLOPS_CLICKHOUSE_RETENTION": "query_features=30d",
        "MLOPS_MINIO_ENDPOINT": s3_server.endpoint,
        "MLOPS_MINIO_ACCESS_KEY": s3_server.access_key,
        "MLOPS_MINIO_SECRET_KEY": s3_server.secret_key,
        "MLOPS_MINIO_BUCKET_NAME": s3_server.bucket_name,
        "MLOPS_RETRAINING_DATA_PATH": str(tmp_path / "partitions"),
    }.items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, words)

    with ClickHouseFeatureStore(settings) as store:
        store.store_many(
            [
                {"query_id": f"q{n}", "query_text": "x", "user_id": f"u{n % 2}", "ended_at": OLD}
                for n in range(10)
            ]
        )
    return run


def test_from_due_to_archived_to_restored_to_erased(typed: Any, tmp_path: Path) -> None:
    day = OLD.date().isoformat()
    due = typed("archive", "check")
    assert (due.exit_code, due.output) == (1, f"due query_features {day}\n")
    done = typed("archive", "run")
    assert done.output == f"archived query_features {day}: 10 rows\n", done.output
    assert typed("archive", "run").output == "nothing to do\n"
    assert typed("archive", "check").exit_code == 0
    (listed,) = json.loads(typed("archive", "ls", "query_features", "-o", "json").output)
    assert (listed["day"], listed["rows"]) == (day, 10)
    would = typed("archive", "restore", "query_features", "--day", day, "--dry-run")
    assert would.output.startswith("dry run: would restore"), would.output
    restored = typed("archive", "restore", "query_features", "--day", day)
    assert restored.output == (
        f"restored query_features {day} into query_features_restored: 10 rows\n"
    )
    into_itself = typed(
        "archive", "restore", "query_features", "--day", day, "--into", "query_features"
    )
    assert "its retention would delete" in into_itself.output
    (tmp_path / "partitions").mkdir()
    partition = pa.table({"user_id": ["u1", "u0"]})
    parquet.write_table(partition, tmp_path / "partitions" / "p.parquet")

    would = json.loads(typed("erase", "--user", "u1", "--dry-run", "-o", "json").output)
    assert would == {**OF_ONE_PERSON, "dry_run": True}
    assert (
        json.loads(typed("archive", "ls", "query_features", "-o", "json").output)[0]["rows"] == 10
    )

    erased = json.loads(typed("erase", "--user", "u1", "-o", "json").output)

    assert erased == {**OF_ONE_PERSON, "dry_run": False}
    assert "would erase 0 rows" in typed("erase", "--user", "u1", "--dry-run").output
    (listed,) = json.loads(typed("archive", "ls", "query_features", "-o", "json").output)
    assert listed["rows"] == 5


def test_without_an_archive_it_is_said_what_to_set(
    typed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_MINIO_ACCESS_KEY", "")

    refused = typed("archive", "run")

    assert refused.exit_code == 1
    assert "MLOPS_MINIO_ENDPOINT" in refused.output
