"""`rag-mlops judge ROWS`: files as people have them, JSON lines out, errors that name the row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from cli.main import main

POLICY = """
steps: [{setWeight: 10}, {setWeight: 50}]
grace: 5s
dwell: 10s
checks: {errors: {}}
"""


def frame(seconds: int = 120, canary: float = 0.2) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    count = 40 * seconds
    arm = np.where(rng.random(count) < 0.5, "canary", "stable")
    bad = np.where(arm == "canary", canary, 0.01)
    return pd.DataFrame(
        {
            "ts": 1_700_000_000 + np.arange(count) / 40,
            "arm": arm,
            "status": np.where(rng.random(count) < bad, 500, 200),
            "latency_ms": rng.lognormal(4, 0.5, count).round(2),
            "weight": 50,
            "session": rng.integers(0, 5000, count).astype(str),
        }
    )


def write(rows: pd.DataFrame, path: Path) -> Path:
    match path.suffix:
        case ".csv":
            rows.to_csv(path, index=False)
        case ".parquet":
            rows.to_parquet(path)
        case _:
            rows.to_json(path, orient="records", lines=True)
    return path


def judged(tmp_path: Path, rows: Path) -> Result:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY, encoding="utf-8")
    return CliRunner().invoke(main, ["judge", str(rows), "--policy", str(policy), "-o", "json"])


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_kind_of_file_gives_the_same(tmp_path: Path, suffix: str) -> None:
    found = lines(judged(tmp_path, write(frame(), tmp_path / f"rows{suffix}")))
    last = found[-1]
    assert last.keys() == {"result", "t", "canary_requests", "reason"}
    assert last["result"] == "rolled_back"
    for line in found[:-1]:
        assert line.keys() >= {"t", "verdict", "action", "weight", "reasons", "metrics"}
        assert line["metrics"]["errors"].keys() >= {"e_value", "effect", "interval", "counts"}
    assert found[-2]["action"] == "rollback"
    assert found[-2]["verdict"] == "regressed"


def test_times_can_be_iso_8601_and_rows_in_any_order(tmp_path: Path) -> None:
    rows = frame()
    expected = lines(judged(tmp_path, write(rows, tmp_path / "a.csv")))
    stamps = pd.to_datetime(rows["ts"], unit="s", utc=True)
    rows["ts"] = stamps.dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    shuffled = rows.sample(frac=1, random_state=1)
    got = lines(judged(tmp_path, write(shuffled, tmp_path / "b.csv")))
    assert [line["t"] for line in got] == [line["t"] for line in expected]
    assert got[-1]["result"] == expected[-1]["result"]


def test_empty_cells_are_missing_and_said_on_stderr(tmp_path: Path) -> None:
    rows = frame()
    rows.loc[3, "latency_ms"] = np.nan
    rows.loc[5, "arm"] = None
    rows["score"] = np.nan
    result = judged(tmp_path, write(rows, tmp_path / "rows.csv"))
    assert lines(result)[-1]["result"] == "rolled_back"
    assert "1 rows without ts, arm or status are left out" in result.stderr


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("arm", "blue", "arm: expected stable, canary, holdback, got 'blue'"),
        ("status", "down", "status: expected a number, got 'down' (row 3)"),
        ("latency_ms", -4, "latency_ms: expected at least 0, got -4 (row 3)"),
        ("score", 7, "score: expected 0 to 1, got 7 (row 3)"),
        ("ts", "1700000000000", "ts: expected epoch seconds, got 1700000000000 (milliseconds?)"),
        ("ts", "yesterday", "ts: expected epoch seconds or ISO 8601"),
    ],
)
def test_what_is_not_understood_names_column_and_row(
    tmp_path: Path, column: str, value: object, message: str
) -> None:
    rows = frame(seconds=2).astype(object)
    rows["score"] = 0.5
    rows[column] = rows[column].astype(object)
    rows.loc[2, column] = value
    result = judged(tmp_path, write(rows, tmp_path / "rows.csv"))
    assert result.exit_code == 2
    assert message in result.stderr
    assert not result.stdout


def test_a_missing_column_and_an_unknown_kind_of_file_are_named(tmp_path: Path) -> None:
    result = judged(tmp_path, write(frame(2).drop(columns="status"), tmp_path / "rows.csv"))
    assert "no column 'status'" in result.stderr
    text = tmp_path / "rows.txt"
    text.write_text("x", encoding="utf-8")
    assert "expected .csv, .jsonl or .parquet, got .txt" in judged(tmp_path, text).stderr


def test_a_check_without_its_column_is_told(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("checks: {errors: {}, tokens: {}}", encoding="utf-8")
    rows = write(frame(20, canary=0.01), tmp_path / "rows.csv")
    result = CliRunner().invoke(main, ["judge", str(rows), "--policy", str(policy)])
    assert "check 'tokens' has no column in the rows: it can never be proved" in result.stderr
    assert lines(result)[-1]["result"] == "undecided"


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
def test_a_server_of_stable_that_stands_out_is_named_beside_the_verdicts(
    tmp_path: Path, ending: str
) -> None:
    rows = frame(seconds=300)
    server = np.random.default_rng(2).choice(["http://a:1", "http://b:1", "http://c:1"], len(rows))
    slow = np.where(server == "http://b:1", 1.4, 1.0)
    named = rows.assign(endpoint=server, latency_ms=rows["latency_ms"] * slow)
    named.loc[::50, "endpoint"] = None
    plain = judged(tmp_path, write(rows.assign(latency_ms=named["latency_ms"]), tmp_path / "p.csv"))

    told = judged(tmp_path, write(named, tmp_path / f"rows{ending}"))

    assert told.stdout == plain.stdout
    assert "of 3 servers of stable http://b:1 stands out: p50 +" in told.stderr
    by = float(told.stderr.partition("p50 +")[2].partition("%")[0])
    assert 36 < by < 44
    assert "stands out" not in plain.stderr
