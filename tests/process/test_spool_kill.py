"""`kill -9` of the writer and of the recorder: what was taken is stored, and stored once."""

from __future__ import annotations

import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gateway.spool import segments
from gateway.spool.format import RecordType, decode_exchange
from gateway.spool.reader import WorkerReader
from mlops.feature_store.settings import ClickHouseSettings
from tests.process.spool_processes import (
    PYTHON,
    ROOT,
    Processes,
    lines,
    start_measured_recorder,
    start_recorder,
    start_worker,
    wait_until,
)

pytestmark = pytest.mark.process


def test_a_killed_writer_loses_no_record_that_it_had_taken(
    processes: Processes, tmp_path: Path
) -> None:
    """Ten workers, each killed in the middle of an offer, at another place."""
    spool, out = tmp_path / "spool", tmp_path / "taken"
    for kill in range(1, 11):
        before = len(lines(out))
        process, worker = start_worker(processes, spool, out)
        wait_until(lambda goal=before + kill * 177: len(lines(out)) > goal)  # type: ignore[misc]
        processes.end(process, signal.SIGKILL)
        acknowledged = [line for line in lines(out) if line.startswith(worker)]
        assert not segments.is_alive(spool, worker)
        reader = WorkerReader(spool, worker)
        found = []
        while records := reader.read(1_000, final=True):
            found += records
        reader.close()
        assert [record.frame.sequence for record in found] == list(range(1, len(found) + 1))
        ids = [
            decode_exchange(record.frame.body).request_id.decode()
            for record in found
            if record.frame.kind == RecordType.EXCHANGE
        ]
        assert ids[: len(acknowledged)] == acknowledged
        assert len(ids) <= len(acknowledged) + 1, "one may have been taken and not written down"


def test_a_killed_recorder_stores_every_record_once(
    processes: Processes, tmp_path: Path, engine: ClickHouseSettings, clickhouse: Any
) -> None:
    """Killed again and again while a worker, killed too, leaves it plenty to do."""
    out = tmp_path / "taken"
    worker, name = start_worker(processes, tmp_path / "spool", out)
    left = tmp_path / "spool" / name

    def stored() -> int:
        return int(clickhouse.command("SELECT count() FROM query_features"))

    for kill in range(1, 6):
        before = stored()
        recorder = start_recorder(processes, tmp_path, engine)
        enough = before + kill * 300
        # A recorder that was faster than the worker has nothing left to do once that is killed.
        wait_until(lambda enough=enough: stored() > enough or not left.exists())  # type: ignore[misc]
        if kill == 3:
            processes.end(worker, signal.SIGKILL)
        processes.end(recorder, signal.SIGKILL)
    recorder = start_recorder(processes, tmp_path, engine)
    wait_until(lambda: not left.exists())
    mapped = Path(f"/proc/{recorder.pid}/maps").read_text(encoding="utf-8")
    assert processes.end(recorder, signal.SIGTERM) == 0
    acknowledged = lines(out)
    ids = [row[0] for row in clickhouse.query("SELECT request_id FROM query_features").result_rows]
    final = clickhouse.command(
        "SELECT count() FROM tallies FINAL WHERE final AND worker = {name:String}",
        parameters={"name": name},
    )
    counted = clickhouse.command("SELECT sum(rows) FROM second_counts")
    assert len(ids) == len(set(ids)), "a row was stored twice"
    assert counted == len(ids), "the counts per second stand for other rows"
    assert set(acknowledged) <= set(ids)
    assert len(ids) <= len(acknowledged) + 1
    assert final == 1
    assert "clickhouse_connect" in mapped
    assert not {name for name in ("pandas", "numpy", "pyarrow") if name in mapped}, "80 MiB"


def test_the_recorder_waits_for_an_engine_that_is_not_there_yet(
    processes: Processes, tmp_path: Path
) -> None:
    """Says how late it is, and ends on SIGTERM all the same, in time."""
    start_worker(processes, tmp_path / "spool", tmp_path / "taken", limit=50)
    away = ClickHouseSettings(host="127.0.0.1", port=1)
    recorder, url = start_measured_recorder(processes, tmp_path, away, "--metrics-port", "0")

    def metric(name: str) -> float:
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))

    wait_until(lambda: metric("recorder_retries_total") > 0)
    assert metric("spool_lag_seconds") > 0
    assert metric("recorder_rows_total") == 0
    assert processes.end(recorder, signal.SIGTERM) == 0


def test_a_second_recorder_says_why_it_ends(processes: Processes, tmp_path: Path) -> None:
    away = ClickHouseSettings(host="127.0.0.1", port=1)
    start_recorder(processes, tmp_path, away)
    second = subprocess.run(
        [*PYTHON, "-m", "gateway.recorder", "--config", str(tmp_path / "gateway.yaml")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
        check=False,
    )
    assert second.returncode == 2
    assert "another recorder already reads" in second.stderr
