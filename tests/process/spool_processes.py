"""Workers that spool and recorders as processes of their own, for tests that kill them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlops.feature_store.settings import ClickHouseSettings

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


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def lines(path: Path) -> list[str]:
    """Whole lines: the last write may be half done."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def start_worker(
    processes: Processes, spool: Path, out: Path, limit: int = 0, shift_s: int = 0
) -> Any:
    script = str(ROOT / "tests" / "process" / "spool_worker.py")
    return processes.start(script, str(spool), str(out), str(limit), str(shift_s))


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
