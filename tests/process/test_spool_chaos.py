"""Everything at once, at random moments, in rounds: `kill -9` of worker, recorder and ClickHouse,
clocks set back, bytes that change.

At the end every record taken is stored once or known to be lost, the counts per second stand for
the rows, and the tallies say what was answered. `ROUNDS=50` makes it longer; `SEED` repeats a run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.spool import segments
from gateway.spool.format import HEADER_BYTES
from mlops.feature_store.migrations import migrate
from tests.process.engine_process import EngineProcess
from tests.process.spool_processes import (
    Processes,
    lines,
    start_recorder,
    start_worker,
    wait_until,
)

ROUNDS = int(os.environ.get("ROUNDS", "4"))
SEED = int(os.environ.get("SEED", str(secrets.randbits(32))))
SHIFTS_S = (0, 0, -3_600, 5)
"""How wrong a worker's clock is, after a restart."""

pytestmark = [pytest.mark.process, pytest.mark.timeout(120 + 20 * ROUNDS)]


class Chaos:
    """One worker, one recorder and one engine at a time, and what was done to them."""

    def __init__(self, processes: Processes, directory: Path, engine: EngineProcess) -> None:
        self.random = Random(SEED)
        self.spool, self.out = directory / "spool", directory / "taken"
        self.kills = 0
        self.damaged = 0
        self._processes, self._directory, self._engine = processes, directory, engine
        self._worker: Any = None
        self._recorder: Any = None
        self.start_worker(0)
        self.start_recorder()

    def start_worker(self, shift_s: int) -> None:
        self._worker, self._name = start_worker(self._processes, self.spool, self.out, 0, shift_s)

    def start_recorder(self) -> None:
        settings = self._engine.settings
        self._recorder = start_recorder(self._processes, self._directory, settings)

    def round(self) -> None:
        time.sleep(self.random.uniform(0.05, 0.8))  # when it hits is what is tried here
        what = self.random.choice(("worker", "recorder", "both", "bytes", "clickhouse", "clock"))
        if what == "clickhouse":
            self._engine.end(signal.SIGKILL)
            self._engine.start()
        elif what == "clock":
            self._worker.send_signal(signal.SIGUSR1)
        else:
            self._kill(what)

    def _kill(self, what: str) -> None:
        if what != "worker":
            self._processes.end(self._recorder, signal.SIGKILL)
        if what != "recorder":
            self._processes.end(self._worker, signal.SIGKILL)
            self.kills += 1
        if what == "bytes":
            self._damage(self.spool / self._name)
        if what != "recorder":
            self.start_worker(self.random.choice(SHIFTS_S))
        if what != "worker":
            self.start_recorder()

    def _damage(self, directory: Path) -> None:
        """Change one byte somewhere in what was written."""
        numbers = segments.segments_of(directory)
        path = segments.segment_path(directory, self.random.choice(numbers))
        data = bytearray(path.read_bytes())
        end = len(data.rstrip(b"\0"))
        if end > HEADER_BYTES:
            data[self.random.randrange(HEADER_BYTES, end)] ^= 1 << self.random.randrange(8)
            path.write_bytes(data)
            self.damaged += 1

    def _progress(self) -> list[tuple[str, bytes]]:
        """Every worker that is left, and how far it is acknowledged."""
        found = []
        for name in segments.workers_of(self.spool):
            cursor = b""
            with contextlib.suppress(FileNotFoundError):  # gone just now, or not begun
                cursor = (self.spool / name / segments.CURSOR_NAME).read_bytes()
            found.append((name, cursor))
        return found

    def finish(self) -> None:
        """Let the last worker end, and everything be stored."""
        self._processes.end(self._worker, signal.SIGKILL)
        self.kills += 1
        while before := self._progress():  # a backlog of unknown length: as long as it shrinks
            wait_until(lambda before=before: self._progress() != before)  # type: ignore[misc]
        assert self._processes.end(self._recorder, signal.SIGTERM) == 0


@pytest.fixture
def engine_process(tmp_path: Path) -> Iterator[EngineProcess]:
    process = EngineProcess(tmp_path / "clickhouse")
    process.start()
    asyncio.run(migrate(process.settings))
    yield process
    process.end(signal.SIGKILL)


def test_whatever_happens_each_record_is_stored_once_or_known_to_be_lost(
    processes: Processes, tmp_path: Path, engine_process: EngineProcess
) -> None:
    sys.stdout.write(f"SEED={SEED} ROUNDS={ROUNDS}\n")  # to repeat the run that failed
    chaos = Chaos(processes, tmp_path, engine_process)
    for _ in range(ROUNDS):
        chaos.round()
    chaos.finish()

    taken = lines(chaos.out)
    ids = [
        request_id for (request_id,) in engine_process.rows("SELECT request_id FROM query_features")
    ]
    ((answered, lost),) = engine_process.rows(
        "SELECT sum(arraySum(answered)), sum(arraySum(mapValues(reasons))) FROM ("
        "SELECT answered, arrayReduce('sumMap', dropped) AS reasons FROM tallies FINAL)"
    )
    ((counted,),) = engine_process.rows("SELECT sum(rows) FROM second_counts")
    unnoticed = len(set(ids) - set(taken))
    missing = set(taken) - set(ids)
    sys.stdout.write(
        f"{len(taken)} taken, {len(ids)} stored, {answered} answered, {len(missing)} missing, "
        f"{chaos.kills} kills, {chaos.damaged} bytes changed\n"
    )

    assert len(ids) == len(set(ids)), "a row was stored twice"
    assert counted == len(ids), "the counts per second stand for other rows"
    assert unnoticed <= chaos.kills, "one in flight for each kill, and no more"
    if chaos.damaged:
        # Each costs a record, or the rest of its segment where it hit a length; a tally that is
        # lost may count for a record.
        assert answered >= len(ids) - chaos.damaged
        assert lost <= answered - len(ids) + chaos.damaged
    else:
        assert not missing
        assert answered == len(ids), "tallies and rows disagree"
        assert lost == 0
