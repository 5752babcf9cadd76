"""`rag-mlops retrain` in front of a real engine."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from cli.main import main
from mlops.feature_store import ClickHouseFeatureStore
from mlops.training.documents import Documents
from mlops.training.outcomes import STOPPED_EXIT_CODE
from tests.component.training.conftest import Row, on_route


@pytest.fixture
def run(
    store: ClickHouseFeatureStore,
    documents: Documents,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[CliRunner, Path]:
    settings = store.store._settings
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLOPS_CLICKHOUSE_HOST", settings.host)
    monkeypatch.setenv("MLOPS_CLICKHOUSE_PORT", str(settings.port))
    monkeypatch.setenv("MLOPS_CLICKHOUSE_DATABASE", settings.database)
    monkeypatch.setenv("MLOPS_RETRAINING_DATA_PATH", str(tmp_path / "partitions"))
    path = tmp_path / "documents.json"
    path.write_bytes(msgspec.json.encode(documents))
    return CliRunner(), path


def extract(documents: Path, route: str, *more: str) -> list[str]:
    return [
        *("retrain", "extract", "--partition", "p", "--documents", str(documents)),
        *("--route", route),
        *("--since", "2026-01-24T12:00", "--until", "2026-01-31T12:00", "--champion", "none"),
        *more,
    ]


def test_a_stop_exits_with_99_and_says_why(run: tuple[CliRunner, Path], route: str) -> None:
    runner, documents = run
    answer = runner.invoke(main, extract(documents, route, "-o", "json"))
    assert answer.exit_code == STOPPED_EXIT_CODE, answer.output
    assert json.loads(answer.stdout)["reason"] == "empty_store"
    again = runner.invoke(main, ["retrain", "validate", "--partition", "p"])
    assert again.exit_code == STOPPED_EXIT_CODE
    assert again.stdout.startswith("extract stopped (empty_store): no answered query")


def test_steps_go_on_where_data_is_good(
    run: tuple[CliRunner, Path], store: ClickHouseFeatureStore, traffic: list[Row], route: str
) -> None:
    runner, documents = run
    store.store_many(on_route(traffic, route))
    early = runner.invoke(main, ["retrain", "validate", "--partition", "p"])
    assert early.exit_code == 1
    assert "step extract has not been done" in early.output
    asked = extract(documents, route, "--labelling", "reciprocal_rank", "-o", "json")
    for _ in range(2):  # done again it says the same
        answer = runner.invoke(main, asked)
        assert answer.exit_code == 0, answer.output
        assert json.loads(answer.stdout)["rows"] == len(traffic)
    other = runner.invoke(main, [*asked, "--seed", "8"])
    assert other.exit_code == 1
    assert "another plan" in other.output
    checked = runner.invoke(main, ["retrain", "validate", "--partition", "p", "-o", "json"])
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.stdout)["training_pairs"] > 100


def test_a_dry_run_says_what_would_be_done_and_leaves_nothing(
    run: tuple[CliRunner, Path], tmp_path: Path, route: str
) -> None:
    runner, documents = run
    would = runner.invoke(main, extract(documents, route, "--dry-run", "-o", "json"))
    assert json.loads(would.stdout)["plan"]["window"]["since"] == "2026-01-24T12:00:00Z"
    assert not (tmp_path / "partitions").exists()
    early = runner.invoke(main, ["retrain", "validate", "--partition", "p", "--dry-run"])
    assert (early.exit_code, "extract has not been done" in early.output) == (1, True), early.output
    runner.invoke(main, extract(documents, route))
    after_a_stop = runner.invoke(main, ["retrain", "train", "--partition", "p", "--dry-run"])
    assert after_a_stop.exit_code == STOPPED_EXIT_CODE
