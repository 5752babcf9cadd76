"""An engine of the benchmark's own, and recorders in front of it."""

from __future__ import annotations

import contextlib
import gc
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from bench.recorder.exchanges import RULES
from gateway.recorder.app import Recorder
from gateway.recorder.memory import collect_seldom
from gateway.recorder.settings import RecorderSettings
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.settings import ClickHouseSettings

PYTHON = (sys.executable, "-W", "ignore::SyntaxWarning")


class Engine:
    """The embedded engine as a process; `port` stays the same when it is started again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.port = 0
        self.start()

    def start(self) -> None:
        command = [*PYTHON, "-m", "mlops.local.clickhouse"]
        command += ["--path", str(self._path), "--port", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline().rsplit(":", 1)[1])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(20)
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def settings(self) -> ClickHouseSettings:
        return ClickHouseSettings(host="127.0.0.1", port=self.port)


@contextlib.contextmanager
def engine(path: Path) -> Iterator[Engine]:
    started = Engine(path)
    try:
        yield started
    finally:
        started.kill()


@contextlib.contextmanager
def _collecting_seldom() -> Iterator[None]:
    """As the recorder's own process does; what is measured beside it collects as usual."""
    usual = gc.get_threshold()
    collect_seldom()
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


@contextlib.asynccontextmanager
async def recording(spool: Path, settings: ClickHouseSettings) -> AsyncIterator[Recorder]:
    log = await FeatureLog.connect(settings)
    recorder = Recorder(
        RecorderSettings(spool_dir=spool),
        log,
        jitter=random.random,
        clock_s=time.monotonic,
        rules=lambda: RULES,
    )
    try:
        with _collecting_seldom():
            async with recorder.running():
                yield recorder
    finally:
        await log.close()
