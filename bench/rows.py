"""`rag-mlops judge ROWS` on a million rows: of an hour, a day and a week; CSV, JSON lines, Parquet.

The wider a log is spread, the more blocks and seconds there are in it; each is judged all the same.
The command runs in a process of its own, from its start to its last line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from bench.report import Measured, write

ROWS = 1_000_000
SPANS = {"an hour": 3_600, "a day": 86_400, "a week": 604_800}
SUFFIXES = (".csv", ".jsonl", ".parquet")
GOAL_S = 20.0


def rows(span_s: float) -> pyarrow.Table:
    """A harmless canary at 10 %, one request in a hundred failing, seed fixed."""
    rng = np.random.default_rng(1)
    canary = rng.random(ROWS) < 0.1
    return pyarrow.table(
        {
            "ts": 1_790_000_000 + np.sort(rng.uniform(0, span_s, ROWS)).round(3),
            "arm": np.where(canary, "canary", "stable"),
            "status": np.where(rng.random(ROWS) < 0.01, 500, 200),
            "latency_ms": rng.lognormal(np.log(120), 0.5, ROWS).round(3),
            "weight": np.full(ROWS, 10),
        }
    )


def written(table: pyarrow.Table, path: Path) -> Path:
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        with path.open("w", encoding="utf-8") as lines:
            for batch in table.to_batches(max_chunksize=50_000):
                lines.writelines(json.dumps(row) + "\n" for row in batch.to_pylist())
    return path


def judged(path: Path) -> tuple[float, float, str]:
    """Wall and CPU seconds, and the result."""
    before, started = os.times(), time.monotonic()
    command = [sys.executable, "-m", "cli", "judge", str(path)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    took_s, after = time.monotonic() - started, os.times()
    cpu_s = after.children_user + after.children_system
    cpu_s -= before.children_user + before.children_system
    return took_s, cpu_s, str(json.loads(answer.stdout.splitlines()[-1])["result"])


def measured(span: str, suffix: str, table: pyarrow.Table, folder: Path) -> Measured:
    path = written(table, folder / f"rows{suffix}")
    took_s, cpu_s, result = judged(path)
    size_mib = path.stat().st_size / 2**20
    path.unlink()
    return Measured(
        name=f"a million rows of {span} judged, {suffix[1:]}",
        value=took_s,
        unit="s",
        goal=f"<= {GOAL_S:g}",
        holds=took_s <= GOAL_S and result == "promoted",
        peers={"CPU s": cpu_s, "MiB": size_mib},
    )


def main() -> None:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for span, span_s in SPANS.items():
            table = rows(span_s)
            figures += [measured(span, suffix, table, Path(folder)) for suffix in SUFFIXES]
    write("rows", figures, {"numpy": np.__version__, "pyarrow": pyarrow.__version__})


if __name__ == "__main__":
    main()
