"""`rag-mlops artifacts` as it is typed: each verb first as a dry run, which changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import main
from mlops.config import MinioSettings


@pytest.fixture
def typed(settings: MinioSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "MLOPS_MINIO_ENDPOINT": settings.endpoint,
        "MLOPS_MINIO_ACCESS_KEY": settings.access_key,
        "MLOPS_MINIO_SECRET_KEY": settings.secret_key,
        "MLOPS_MINIO_BUCKET_NAME": settings.bucket_name,
    }.items():
        monkeypatch.setenv(name, value)

    def run(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, ["artifacts", *words])
        assert result.exit_code == code, result.output
        return result.output

    return run


def test_every_verb_can_be_tried_first(typed: Any, model: Path, tmp_path: Path) -> None:
    assert "would be made" in typed("init", "--dry-run")
    assert "made" in typed("init")
    assert "is there" in typed("init", "--dry-run")

    would = json.loads(typed("upload", str(model), "m", "1", "--dry-run", "-o", "json"))
    assert (would["is_stored"], typed("list")) == (False, "")
    assert typed("upload", str(model), "m", "1").strip() == would["uri"]
    assert "is stored" in typed("upload", str(model), "m", "1", "--dry-run")
    refused = typed("upload", str(model / "run.sh"), "m", "1", "--dry-run", code=1)
    assert "other content" in refused

    target = tmp_path / "back"
    assert f"{would['size_bytes']:,} bytes" in typed("download", "m", "1", "back", "--dry-run")
    assert not target.exists()

    assert "dry run: rag-mlops-replaced" in typed("lifecycle", "apply", "--dry-run")
    assert typed("lifecycle", "show") == "no rules\n"
    assert "rag-mlops-replaced" in typed("lifecycle", "apply")

    assert "would delete m 1" in typed("delete", "m", "1", "--dry-run")
    assert "m  1  " in typed("list")
    assert "deleted m 1" in typed("delete", "m", "1")
    assert typed("list") == ""
    assert "is not stored" in typed("delete", "m", "1", code=1)
    assert typed("gc", "--dry-run") == "dry run: 0 chunks would be deleted\n", "younger than a day"
