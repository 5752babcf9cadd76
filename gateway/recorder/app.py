"""The recorder put together: one tailer for each worker's directory."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Self

from gateway.features.rules import AS_THEY_COME, Rules
from gateway.recorder.batches import batch_bytes_of
from gateway.recorder.cursor import BadCursor
from gateway.recorder.delivery import Delivery, Sink
from gateway.recorder.entries import Entry
from gateway.recorder.metrics import RecorderMetrics
from gateway.recorder.reserve import Reserve
from gateway.recorder.settings import RecorderSettings
from gateway.recorder.tailer import Surroundings, WorkerTailer
from gateway.spool import segments
from gateway.spool.format import BadSegment
from mlops.service.aio import tasks_of

log = logging.getLogger(__name__)

LOCK_NAME = "recorder.lock"
DISCOVERY_S = 0.25
"""Between two looks for new workers: how late a new worker's first record is at most read."""
FAILED_RETRY_S = 5.0
"""After a failure that is not known to last."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_FULL_RETRY_S = 0.5
"""After the reserve was given: to store is what frees the disk."""
MAX_WORKERS_AT_ONCE = 64
"""Living workers tailed together: more than a gateway has."""
CATCHING_UP_AT_ONCE = 2
"""Workers that are gone, tailed beside the living: the other backlogs wait, so that after an outage
with many restarts a living worker's rows still get a third of what the recorder can do."""


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
        rules: Callable[[], Rules] = lambda: AS_THEY_COME,
    ) -> None:
        """`rules` is asked before every read, for those that are in force now."""
        loop = asyncio.get_running_loop()
        self.metrics = RecorderMetrics(
            self._lag_s, self._spool_bytes, lambda: self._backlogs, lambda: tasks_of(loop)
        )
        self._settings = settings
        self._clock_s = clock_s
        self._stopping = asyncio.Event()
        self._drains_until_s: float | None = None
        self._changed = asyncio.Event()
        self._delivery = Delivery(sink, self.metrics, self._stopping, jitter)
        self._surroundings = Surroundings(
            delivery=self._delivery,
            metrics=self.metrics,
            stopping=self._stopping,
            clock_s=clock_s,
            rules=rules,
            batch_bytes=lambda: batch_bytes_of(settings, len(self._tailers)),
        )
        self._backlogs = 0
        self._reserve = Reserve(settings.spool_dir)
        self._reserve_again_at_s = -inf
        self._tailers: dict[asyncio.Task[None], WorkerTailer] = {}
        self._not_before_s: dict[str, float] = {}
        """Workers that failed, and when to try again; bounded by the directories there are."""
        self._lock: int | None = None

    def tell(self, of_stored: Callable[[Sequence[Entry]], None]) -> None:
        """Call `of_stored` with entries whose rows were just stored; it must not wait or raise."""
        self._delivery.on_stored = of_stored

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
        self._reserve.take()

    def stop(self) -> None:
        """End `run` after the batches in hand."""
        self._stopping.set()
        self._changed.set()

    def drain(self, most_s: float) -> None:
        """End `run` once no worker lives and all is read, at the latest in `most_s`.

        Said again, or with 0: after the batches in hand.
        """
        if self._drains_until_s is not None or not most_s:
            self.stop()
            return
        self._drains_until_s = self._clock_s() + most_s
        log.info("reading what is left, for at most %g s", most_s)
        self._changed.set()

    def _is_drained(self) -> bool:
        if self._drains_until_s is None:
            return False
        is_over = self._clock_s() >= self._drains_until_s
        return is_over or not segments.workers_of(self._settings.spool_dir)

    async def run(self) -> None:
        """Until `stop`, and then at most `stop_s` longer."""
        try:
            while not self._stopping.is_set():
                self._reap()
                self._discover()
                if self._is_drained():
                    self.stop()
                    break
                if self._clock_s() >= self._reserve_again_at_s:
                    self._reserve.take()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DISCOVERY_S):
                        await self._changed.wait()
                if not self._stopping.is_set():
                    self._changed.clear()
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

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The spool is taken and read meanwhile, in a task beside the caller's.

        Raises:
            SpoolTaken: another recorder has it.
        """
        self.open()
        task = asyncio.get_running_loop().create_task(self.run(), name="recorder")
        try:
            yield self
        finally:
            self.stop()
            await task

    def _discover(self) -> None:
        """Start a tailer for every living worker, and for as many backlogs as may be read."""
        tailed = {tailer.worker for tailer in self._tailers.values()}
        catching_up = sum(tailer.is_catching_up for tailer in self._tailers.values())
        backlogs = catching_up
        for worker in segments.workers_of(self._settings.spool_dir):
            if worker in tailed or self._clock_s() < self._not_before_s.get(worker, -inf):
                continue
            is_dead = not segments.is_alive(self._settings.spool_dir, worker)
            backlogs += is_dead
            if is_dead and catching_up >= CATCHING_UP_AT_ONCE:
                continue
            if len(self._tailers) < MAX_WORKERS_AT_ONCE:
                catching_up += is_dead
                self._start(worker, is_dead=is_dead)
        self._backlogs = backlogs

    def _start(self, worker: str, *, is_dead: bool) -> None:
        tailer = WorkerTailer(worker, self._settings, self._surroundings, is_dead=is_dead)
        loop = asyncio.get_running_loop()
        task = loop.create_task(tailer.run(), name=f"tail worker {worker}")
        task.add_done_callback(lambda _: self._changed.set())
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
        if isinstance(failure, OSError) and failure.errno in DISK_FULL:
            log.error("worker %s: the disk is full, using the reserve: %s", worker, failure)
            self._reserve.give()
            self._reserve_again_at_s = self._clock_s() + FAILED_RETRY_S
            self._not_before_s[worker] = self._clock_s() + DISK_FULL_RETRY_S
            return
        # Whatever else it was, the ranges on disk make trying again safe.
        self._not_before_s[worker] = self._clock_s() + FAILED_RETRY_S
        log.error("worker %s: trying again in a while: %s", worker, failure, exc_info=failure)

    def _lag_s(self) -> float:
        # A scrape asks in a thread of its own, while tailers come and go.
        tailers = tuple(self._tailers.values())
        oldest = [tailer.oldest_us for tailer in tailers if tailer.oldest_us]
        return max(0.0, datetime.now(UTC).timestamp() - min(oldest) / 1e6) if oldest else 0.0

    def _spool_bytes(self) -> float:
        with segments.locked(self._settings.spool_dir) as usage:
            return usage.bytes()
