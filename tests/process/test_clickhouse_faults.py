"""ClickHouse away, stalled, refusing, out of disk, under load: every record once, none missing.

A worker spools some thousand records a second and a recorder delivers them, both in processes of
their own; what was taken is counted by its ids. `AWAY_S=60` makes the outages longer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import clickhouse_connect
import pytest

from mlops.feature_store.migrations import migrate
from tests.process.engine_process import EngineProcess
from tests.process.spool_processes import (
    Processes,
    lines,
    start_recorder,
    start_worker,
    wait_until,
)

AWAY_S = float(os.environ.get("AWAY_S", "2"))
DISK_BYTES = 300 * 1024**2
TAKEN_MEANWHILE = 2_000
"""Records that must be taken while ClickHouse does not take any."""

_REQUEST_IDS = "SELECT request_id FROM query_features"

pytestmark = [pytest.mark.process, pytest.mark.timeout(110 + 8 * AWAY_S)]


class Pipeline:
    """A worker, a recorder and the engine behind it."""

    def __init__(self, processes: Processes, directory: Path, engine: EngineProcess) -> None:
        self.engine = engine
        self.out = directory / "taken"
        asyncio.run(migrate(engine.settings))
        self.worker, _ = start_worker(processes, directory / "spool", self.out)
        start_recorder(processes, directory, engine.settings)
        self._processes = processes
        wait_until(lambda: self.stored() >= TAKEN_MEANWHILE)

    def stored(self) -> int:
        return int(self.engine.rows("SELECT count() FROM query_features")[0][0])

    def go_on_taking(self) -> None:
        """Until the outage is long enough, and the worker has spooled through it."""
        enough, until_s = len(lines(self.out)) + TAKEN_MEANWHILE, time.monotonic() + AWAY_S
        wait_until(lambda: len(lines(self.out)) >= enough)
        while time.monotonic() < until_s:
            time.sleep(0.05)  # the outage itself has a length

    def check_nothing_comes_through(self) -> None:
        """The fault is one: hardly anything of what was taken meanwhile is stored."""
        assert len(lines(self.out)) - self.stored() > TAKEN_MEANWHILE / 2

    def check_every_record_once(self) -> None:
        """The worker ends in the middle of its work; what it was told is taken must be there."""
        self._processes.end(self.worker, signal.SIGKILL)
        taken = set(lines(self.out))
        self._wait_until(lambda: self.stored() >= len(taken))
        self._wait_until(self._is_counted)
        found = {request_id for (request_id,) in self.engine.rows(_REQUEST_IDS)}
        assert taken <= found, "a record that was taken is not there"
        ((rows, ids, requests),) = self.engine.rows(
            "SELECT count(), uniqExact(record_id), uniqExact(request_id) FROM query_features"
        )
        assert rows == ids == requests
        assert rows - len(taken) <= 1, "at most the one record whose taking was not written down"
        assert self.engine.rows("SELECT count() FROM dead_letters") == [(0,)]

    def _wait_until(self, holds: Callable[[], bool]) -> None:
        """What a long outage left is as much again to deliver."""
        deadline_s = time.monotonic() + 60 + 3 * AWAY_S
        while not holds():
            assert time.monotonic() < deadline_s, "waited too long"
            time.sleep(0.2)

    def _is_counted(self) -> bool:
        """Counts and sums stand for the rows, each once."""
        (counts,) = self.engine.rows(
            "SELECT (SELECT count() FROM query_features), (SELECT sum(rows) FROM second_counts), "
            "(SELECT sum(arraySum(mapValues(latency_bins))) FROM second_counts), "
            "(SELECT sum(arraySum(mapValues(answer_chars_bins))) FROM second_counts), "
            "(SELECT sum(rows) FROM embedding_sums), (SELECT sum(texts) FROM embedding_sums)"
        )
        return len(set(counts)) == 1

    def command(self, sql: str) -> None:
        settings = self.engine.settings
        client = clickhouse_connect.get_client(
            host="127.0.0.1", port=settings.port, database=settings.database,
            autogenerate_session_id=False,
        )  # fmt: skip
        try:
            client.command(sql)
        finally:
            client.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Path], Pipeline]]:
    processes, engines = Processes(), []

    def started(database: Path) -> Pipeline:
        engine = EngineProcess(database)
        engine.start()
        engines.append(engine)
        return Pipeline(processes, tmp_path, engine)

    yield started
    processes.end_all()
    for engine in engines:
        engine.end(signal.SIGKILL)


def test_clickhouse_that_is_killed_and_away(
    start: Callable[[Path], Pipeline], tmp_path: Path
) -> None:
    pipeline = start(tmp_path / "db")
    pipeline.engine.end(signal.SIGKILL)
    pipeline.go_on_taking()
    pipeline.engine.start()
    pipeline.check_every_record_once()


def test_clickhouse_that_stalls(start: Callable[[Path], Pipeline], tmp_path: Path) -> None:
    pipeline = start(tmp_path / "db")
    assert pipeline.engine.process is not None
    pipeline.engine.process.send_signal(signal.SIGSTOP)
    pipeline.go_on_taking()
    pipeline.engine.process.send_signal(signal.SIGCONT)
    pipeline.check_every_record_once()


@pytest.mark.parametrize(
    ("fault", "mended"),
    [
        (
            "ALTER TABLE query_features RENAME COLUMN finish_reason TO was_finish_reason",
            "ALTER TABLE query_features RENAME COLUMN was_finish_reason TO finish_reason",
        ),
        (
            "RENAME TABLE second_count_batches TO elsewhere",
            "RENAME TABLE elsewhere TO second_count_batches",
        ),
    ],
    ids=["a column is gone", "a view's table is gone"],
)
def test_clickhouse_that_refuses(
    start: Callable[[Path], Pipeline], tmp_path: Path, fault: str, mended: str
) -> None:
    """A schema that does not fit is no fault of the rows: they wait, and none is given up."""
    pipeline = start(tmp_path / "db")
    pipeline.command(fault)
    pipeline.go_on_taking()
    pipeline.check_nothing_comes_through()
    pipeline.command(mended)
    pipeline.check_every_record_once()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(where)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"cannot mount a small file system here: {made.stderr.strip()}")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def test_clickhouse_whose_disk_is_full(disk: Path, start: Callable[[Path], Pipeline]) -> None:
    pipeline = start(disk / "db")
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65_536)
        except OSError:
            pass
    pipeline.go_on_taking()
    pipeline.check_nothing_comes_through()
    filler.unlink()
    pipeline.check_every_record_once()
