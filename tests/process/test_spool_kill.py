"""`kill -9` of the writer and of the recorder: what was taken is stored, and stored once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest

from gateway.spool import segments
from gateway.spool.format import RecordType, decode_exchange
from gateway.spool.reader import WorkerReader
from mlops.feature_store.migrations import migrate
from mlops.feature_store.settings import ClickHouseSettings

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
PYTHON = (sys.executable, "-W", "ignore::SyntaxWarning")
WAIT_S = 60.0


class Processes:
    """Started here and ended here."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **environment: str) -> tuple[subprocess.Popen[str], str]:
        """Run Python with `arguments`; what stood after `ready`."""
        process = subprocess.Popen(
            [*PYTHON, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
        self._running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready "), line
        return process, line.removeprefix("ready ").strip()

    def end(self, process: subprocess.Popen[str], number: signal.Signals) -> int:
        process.send_signal(number)
        code = process.wait(20)
        assert process.stdout is not None
        process.stdout.close()
        self._running.remove(process)
        return code

    def end_all(self) -> None:
        for process in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                self.end(process, signal.SIGKILL)


@pytest.fixture
def processes() -> Iterator[Processes]:
    processes = Processes()
    yield processes
    processes.end_all()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def lines(path: Path) -> list[str]:
    """Whole lines: the last write may be half done."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def start_worker(processes: Processes, spool: Path, out: Path, limit: int = 0) -> Any:
    script = str(ROOT / "tests" / "process" / "spool_worker.py")
    return processes.start(script, str(spool), str(out), str(limit))


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


@pytest.fixture
def engine(processes: Processes, tmp_path: Path) -> ClickHouseSettings:
    _, url = processes.start(
        "-m", "mlops.local.clickhouse", "--path", str(tmp_path / "clickhouse"), "--port", "0"
    )
    settings = ClickHouseSettings(host="127.0.0.1", port=int(url.rsplit(":", 1)[1]))
    asyncio.run(migrate(settings))
    return settings


CONFIG = """
listen: 127.0.0.1:0
admin: {{listen: 127.0.0.1:0}}
state: {directory}/state
spool: {{dir: {directory}/spool}}
routes:
  - name: rag
    match: {{prefix: /}}
    stable: {{version: "1", endpoints: ["http://127.0.0.1:1"]}}
"""


def start_recorder(
    processes: Processes, directory: Path, engine: ClickHouseSettings
) -> subprocess.Popen[str]:
    return start_measured_recorder(processes, directory, engine)[0]


def start_measured_recorder(
    processes: Processes, directory: Path, engine: ClickHouseSettings, *arguments: str
) -> tuple[subprocess.Popen[str], str]:
    config = directory / "gateway.yaml"
    config.write_text(CONFIG.format(directory=directory))
    return processes.start(
        "-m",
        "gateway.recorder",
        "--config",
        str(config),
        *arguments,
        MLOPS_CLICKHOUSE_HOST=engine.host,
        MLOPS_CLICKHOUSE_PORT=str(engine.port),
    )


@pytest.fixture
def clickhouse(engine: ClickHouseSettings) -> Iterator[Any]:
    with contextlib.closing(
        clickhouse_connect.get_client(host=engine.host, port=engine.port, database=engine.database)
    ) as client:
        yield client


def test_a_killed_recorder_stores_every_record_once(
    processes: Processes, tmp_path: Path, engine: ClickHouseSettings, clickhouse: Any
) -> None:
    """Killed again and again while a worker, killed too, leaves it plenty to do."""
    out = tmp_path / "taken"
    worker, name = start_worker(processes, tmp_path / "spool", out)

    def stored() -> int:
        return int(clickhouse.command("SELECT count() FROM query_features"))

    for kill in range(1, 6):
        before = stored()
        recorder = start_recorder(processes, tmp_path, engine)
        wait_until(lambda more=before + kill * 300: stored() > more)  # type: ignore[misc]
        if kill == 3:
            processes.end(worker, signal.SIGKILL)
        processes.end(recorder, signal.SIGKILL)
    recorder = start_recorder(processes, tmp_path, engine)
    wait_until(lambda: not (tmp_path / "spool" / name).exists())
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
    assert metric("recorder_spool_lag_seconds") > 0
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
