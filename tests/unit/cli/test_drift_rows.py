"""`rag-mlops drift ROWS --column NAME`: alarms as JSON lines, the result last."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from cli.main import main

TOPICS = np.random.default_rng(7).normal(0, 1, (4, 8))


def vectors(count: int, new_from: int) -> list[list[float]]:
    rng = np.random.default_rng(1)
    topic = np.where((np.arange(count) >= new_from) & (rng.random(count) < 0.5), 3, 0)
    return (TOPICS[topic] + rng.normal(0, 0.5, (count, 8))).round(4).tolist()


def looked(path: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["drift", str(path), "--column", "embedding", *options])


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_a_change_is_told_with_its_time(tmp_path: Path, suffix: str) -> None:
    rows = pd.DataFrame({"ts": 1.7e9 + np.arange(1500), "embedding": vectors(1500, 1000)})
    path = tmp_path / f"rows{suffix}"
    shuffled = rows.sample(frac=1, random_state=1)
    if suffix == ".csv":
        shuffled["embedding"] = shuffled["embedding"].map(json.dumps)
        shuffled.to_csv(path, index=False)
    elif suffix == ".parquet":
        shuffled.to_parquet(path)
    else:
        shuffled.to_json(path, orient="records", lines=True)
    result = looked(path, "--reference", "500")
    assert result.exit_code == 0, result.output
    *alarms, last = [json.loads(line) for line in result.stdout.splitlines()]
    assert last["result"] == "drift"
    assert last["first_alarm"] == alarms[0]["query"]
    assert 500 < alarms[0]["query"] <= 700
    assert alarms[0]["t"] == pytest.approx(1.7e9 + 499 + alarms[0]["query"])


def test_no_change_is_no_drift(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"embedding": vectors(2000, 10**6)}).to_parquet(path)
    (line,) = looked(path, "--reference", "800").stdout.splitlines()
    assert json.loads(line)["result"] == "no drift"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, 2.0]] * 400 + [[1.0]], "expected vectors of one length (one embedding space)"),
        ([[1.0, 2.0]] * 50, "expected at least 200 vectors"),
        (["no"] * 400, "expected a list of numbers, got 'no' (row 1)"),
        ([[1.0, 2.0]] * 400, "expected more than the reference"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, values: list[object], message: str
) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"embedding": values}).to_parquet(path)
    result = looked(path)
    assert result.exit_code == 2
    assert message in result.stderr
