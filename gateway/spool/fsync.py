"""What was spooled is written out at intervals, by the thread that prepares segments."""

from __future__ import annotations

import logging
from collections.abc import Callable
from mmap import mmap
from time import monotonic

from gateway.spool import segments

log = logging.getLogger(__name__)

Sync = Callable[[mmap, int, int], None]


class Syncer:
    """Every `interval_s`, the bytes of the segment being written that are new since the last time.

    A power cut then costs at most the records of one interval and of the time one sync takes. What
    the disk refuses is logged once and tried again; a crash of ours still costs nothing.
    """

    def __init__(
        self,
        interval_s: float,
        written: Callable[[], tuple[mmap | None, int]],
        sync: Sync = segments.sync,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        """`written` gives the segment being written, and up to which byte."""
        self._interval_s = interval_s
        self._written = written
        self._sync = sync
        self._clock_s = clock_s
        self._due_s = clock_s() + interval_s
        self._memory: mmap | None = None
        self._synced = 0
        self._fails = False

    def wait_s(self, at_most_s: float | None) -> float:
        """How long there is nothing to do here, and at most so long."""
        until_due_s = max(0.0, self._due_s - self._clock_s())
        return until_due_s if at_most_s is None else min(at_most_s, until_due_s)

    def sync_if_due(self) -> None:
        """`finish`, where the interval has passed since the last time."""
        now_s = self._clock_s()
        if now_s >= self._due_s:
            self._due_s = now_s + self._interval_s
            self.finish()

    def finish(self) -> None:
        """Everything written so far."""
        memory, end = self._written()
        if memory is not None:
            self._sync_to(memory, end)

    def finish_segment(self, memory: mmap) -> None:
        """All of a segment that is written to its end, before it is unmapped."""
        self._sync_to(memory, len(memory))
        self._memory = None

    def _sync_to(self, memory: mmap, end: int) -> None:
        start = self._synced if memory is self._memory else 0
        if end <= start:
            return
        try:
            self._sync(memory, start, end)
        except OSError as exc:
            if not self._fails:
                log.error("the spool is not safe from a power cut: %s", exc)  # noqa: TRY400
            self._fails = True
            return
        self._fails = False
        self._memory, self._synced = memory, end
