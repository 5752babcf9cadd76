"""One worker's spool, from its cursor to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from msgspec.structs import replace

from gateway.recorder import cursor as cursors
from gateway.recorder.batches import Batch, halves
from gateway.recorder.cursor import Cursor, Range
from gateway.recorder.delivery import Delivery, Stopped, TooManyRows, stops_within
from gateway.recorder.entries import Entry, entry_of
from gateway.recorder.metrics import RecorderMetrics
from gateway.recorder.settings import RecorderSettings
from gateway.spool import segments
from gateway.spool.reader import Position, SpooledRecord, WorkerReader
from mlops.contracts.tally import Tally

log = logging.getLogger(__name__)

READ_RECORDS = 200
"""Read before others get their turn; some 10 ms of work."""
LIVENESS_S = 0.5
"""Between two looks at the lock of a worker that has nothing new."""
TORN_PATIENCE_S = 2.0
"""For a frame of a live worker to become whole; writing it takes microseconds."""


class WorkerTailer:
    """Carries one worker's records to the feature store until the worker is gone and empty."""

    def __init__(
        self,
        worker: str,
        settings: RecorderSettings,
        delivery: Delivery,
        metrics: RecorderMetrics,
        stopping: asyncio.Event,
        clock_s: Callable[[], float],
    ) -> None:
        self.worker = worker
        self.oldest_s: float | None = None
        """When the oldest record that is read and not acknowledged ended, in unix time."""
        self._settings = settings
        self._delivery = delivery
        self._metrics = metrics
        self._stopping = stopping
        self._clock_s = clock_s
        self._directory = settings.spool_dir / worker
        self._cursor_path = self._directory / segments.CURSOR_NAME
        self._cursor = Cursor()
        self._reader = WorkerReader(settings.spool_dir, worker)
        self._is_dead = False
        self._look_again_at_s = 0.0
        self._torn_since_s: float | None = None

    async def run(self) -> None:
        """Until the recorder stops, or nothing of the worker is left; then its directory goes.

        Raises:
            BadSegment, BadCursor: this program cannot read the spool or the cursor.
        """
        try:
            self._cursor = cursors.load(self._cursor_path)
            await self._finish_pending()
            self._reader.position = self._cursor.done
            while (entries := await self._gather()) is not None:
                if entries:
                    await self._deliver_new(entries)
                if self._stopping.is_set():
                    return
            await self._say_final()
            self._remove()
        except Stopped:
            return
        finally:
            self._reader.close()

    async def _deliver_new(self, entries: list[Entry]) -> None:
        whole = Range(self._cursor.done, self._reader.position)
        self._save(replace(self._cursor, pending=(whole,)), durable=True)
        await self._deliver(whole, entries)
        if self._cursor.pending:  # it was split
            position = self._reader.position
            await self._finish_pending()
            self._reader.position = position

    async def _finish_pending(self) -> None:
        """Insert ranges that were on their way, each with the same records as before."""
        while self._cursor.pending:
            first = self._cursor.pending[0]
            records = self._reader.read_range(first.start, first.end)
            await self._deliver(first, self._entries(first.start, records))

    async def _deliver(self, whole: Range, entries: list[Entry]) -> None:
        """Insert the first pending range and acknowledge it, or split it if it was refused."""
        rest = self._cursor.pending[1:]
        try:
            await self._delivery.deliver(entries, whole.token(self.worker))
        except TooManyRows as exc:
            log.warning("batch %s refused, split: %s", whole.token(self.worker), exc)
            self._metrics.splits.inc()
            pending = (*halves(whole, entries), *rest)
            self._save(replace(self._cursor, pending=pending), durable=True)
            return
        self._save(
            replace(
                self._cursor,
                done=whole.end,
                pending=rest,
                last_second=max([self._cursor.last_second, *(entry.second for entry in entries)]),
                is_final=self._cursor.is_final or any(x.tally and x.tally.final for x in entries),
            ),
            durable=False,
        )
        self.oldest_s = None
        self._free_segments()

    async def _gather(self) -> list[Entry] | None:
        """The next batch; None once the worker is gone and everything is read.

        Empty only when the recorder stops.
        """
        batch = Batch(self._settings)
        while not batch.is_full(self._clock_s()):
            start = self._reader.position
            records = self._reader.read(READ_RECORDS, final=self._is_dead)
            self._report_cuts()
            if not records and not batch.entries:
                self._skip_nothing()
            for entry in self._entries(start, records):
                batch.add(entry, self._clock_s())
            if batch.entries and self.oldest_s is None:
                self.oldest_s = batch.entries[0].ended_at_s
            if records:
                await asyncio.sleep(0)
            elif batch.is_enough():
                break
            elif self._is_dead:
                return batch.entries or None
            elif await self._wait_for_more():
                break
        return batch.entries

    def _skip_nothing(self) -> None:
        """Free a segment that is read to its end: the writer may be waiting for its space."""
        if self._reader.position.segment > self._cursor.done.segment:
            self._save(replace(self._cursor, done=self._reader.position), durable=False)
            self._free_segments()

    async def _wait_for_more(self) -> bool:
        """Nothing whole is left to read. True: the recorder stops."""
        now_s = self._clock_s()
        if not self._reader.torn:
            self._torn_since_s = None
        elif self._torn_since_s is None:
            self._torn_since_s = now_s
        elif now_s - self._torn_since_s >= TORN_PATIENCE_S:
            self._reader.cut()
            self._report_cuts()
            self._torn_since_s = None
        if now_s >= self._look_again_at_s:
            self._look_again_at_s = now_s + LIVENESS_S
            if not segments.is_alive(self._settings.spool_dir, self.worker):
                self._is_dead = True  # read once more: it wrote until it let go of its lock
                return False
        return await stops_within(self._stopping, self._settings.poll_s)

    def _entries(self, start: Position, records: list[SpooledRecord]) -> list[Entry]:
        entries = []
        for record in records:
            if record.missing:
                self._metrics.missing.inc(max(0, record.missing))
                log.error(
                    "worker %s: record %d follows %d; %d missing",
                    self.worker,
                    record.frame.sequence,
                    record.frame.sequence - record.missing - 1,
                    record.missing,
                )
            entries.append(entry_of(self.worker, start, record))
            start = record.end
        return entries

    def _report_cuts(self) -> None:
        for cut in self._reader.cuts:
            self._metrics.cuts.inc()
            log.warning(
                "worker %s: no whole record at %s, going on at %s",
                self.worker,
                cut.at,
                cut.resumed_at,
            )
        self._reader.cuts.clear()

    async def _say_final(self) -> None:
        """Let the watermark pass a worker that was killed and could not say so itself."""
        if self._cursor.is_final or not self._cursor.last_second:
            return
        tally = Tally(worker=self.worker, second=self._cursor.last_second, final=True)
        await self._delivery.deliver_tally(tally, f"{self.worker}/final")

    def _save(self, cursor: Cursor, *, durable: bool) -> None:
        cursors.save(self._cursor_path, cursor, durable=durable)
        self._cursor = cursor

    def _free_segments(self) -> None:
        """Everything before the cursor's segment is acknowledged."""
        read = [x for x in self._reader.segments() if x < self._cursor.done.segment]
        if read:
            segments.remove_segments(self._settings.spool_dir, self.worker, read)

    def _remove(self) -> None:
        """Remove the directory; the cursor after the segments, so that none is read anew."""
        segments.remove_segments(self._settings.spool_dir, self.worker, self._reader.segments())
        last = (segments.CURSOR_NAME, segments.LOCK_NAME)
        others = [x.name for x in self._directory.iterdir() if x.name not in last]
        with segments.locked(self._settings.spool_dir) as usage:
            for name in (*others, *last):
                (self._directory / name).unlink(missing_ok=True)
            self._directory.rmdir()
            if others:  # segments that were being made
                usage.count()
        log.info("worker %s is gone and everything of it is stored", self.worker)
