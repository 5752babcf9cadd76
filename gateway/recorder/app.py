"""The recorder put together: one tailer for each worker's directory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from math import inf

from gateway.recorder.cursor import BadCursor
from gateway.recorder.delivery import Delivery, Sink, stops_within
from gateway.recorder.metrics import RecorderMetrics
from gateway.recorder.settings import RecorderSettings
from gateway.recorder.tailer import WorkerTailer
from gateway.spool import segments
from gateway.spool.format import BadSegment

log = logging.getLogger(__name__)

LOCK_NAME = "recorder.lock"
DISCOVERY_S = 0.25
"""Between two looks for new workers: how late a new worker's first record is at most read."""
FAILED_RETRY_S = 5.0
"""After a failure that is not known to last."""
MAX_WORKERS_AT_ONCE = 64
"""Tailed together, a batch in hand each: 512 MB at the worst. More than any gateway has workers;
directories past this, of workers long gone, wait their turn."""


class SpoolTaken(Exception):
    """Another recorder reads this spool."""


class Recorder:
    """Reads every worker's spool under one directory, alone."""

    def __init__(
        self,
        settings: RecorderSettings,
        sink: Sink,
        *,
        jitter: Callable[[], float],
        clock_s: Callable[[], float],
    ) -> None:
        self.metrics = RecorderMetrics(self._lag_s)
        self._settings = settings
        self._clock_s = clock_s
        self._stopping = asyncio.Event()
        self._delivery = Delivery(sink, self.metrics, self._stopping, jitter)
        self._tailers: dict[asyncio.Task[None], WorkerTailer] = {}
        self._not_before_s: dict[str, float] = {}
        """Workers that failed, and when to try again; bounded by the directories there are."""
        self._lock: int | None = None

    def open(self) -> None:
        """Take the spool.

        Raises:
            SpoolTaken: another recorder has it.
        """
        spool = self._settings.spool_dir
        spool.mkdir(mode=segments.DIRECTORY_MODE, parents=True, exist_ok=True)
        self._lock = segments.take_lock(spool / LOCK_NAME)
        if self._lock is None:
            raise SpoolTaken(f"another recorder already reads {spool}; expected to be the only one")
        with segments.locked(spool) as usage:
            usage.count()

    def stop(self) -> None:
        """End `run` after the batches in hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`, and then at most `stop_s` longer."""
        try:
            while not await stops_within(self._stopping, DISCOVERY_S):
                self._reap()
                self._discover()
            if self._tailers:
                await asyncio.wait(self._tailers, timeout=self._settings.stop_s)
            self._reap()
        finally:
            for task in self._tailers:
                task.cancel()
            await asyncio.gather(*self._tailers, return_exceptions=True)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _discover(self) -> None:
        tailed = {tailer.worker for tailer in self._tailers.values()}
        for worker in segments.workers_of(self._settings.spool_dir):
            if len(self._tailers) >= MAX_WORKERS_AT_ONCE:
                return
            if worker not in tailed and self._clock_s() >= self._not_before_s.get(worker, -inf):
                tailer = WorkerTailer(
                    worker,
                    self._settings,
                    self._delivery,
                    self.metrics,
                    self._stopping,
                    self._clock_s,
                )
                task = asyncio.get_running_loop().create_task(
                    tailer.run(), name=f"tail worker {worker}"
                )
                self._tailers[task] = tailer

    def _reap(self) -> None:
        """Take note of tailers that have ended, and why."""
        for task in [task for task in self._tailers if task.done()]:
            tailer = self._tailers.pop(task)
            with contextlib.suppress(asyncio.CancelledError):
                failure = task.exception()
                if failure is not None:
                    self._give_up(tailer.worker, failure)

    def _give_up(self, worker: str, failure: BaseException) -> None:
        if isinstance(failure, BadSegment | BadCursor):
            self._not_before_s[worker] = inf
            self.metrics.unreadable.inc()
            log.error("worker %s is left alone until a restart: %s", worker, failure)
            return
        # A full disk passes; and whatever else it was, the ranges on disk make trying again safe.
        self._not_before_s[worker] = self._clock_s() + FAILED_RETRY_S
        log.error("worker %s: trying again in a while: %s", worker, failure, exc_info=failure)

    def _lag_s(self) -> float:
        oldest = [x.oldest_s for x in self._tailers.values() if x.oldest_s is not None]
        return max(0.0, datetime.now(UTC).timestamp() - min(oldest)) if oldest else 0.0
