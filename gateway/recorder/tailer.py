"""One worker's spool, from its cursor to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from gateway.features.rules import Rules
from gateway.recorder import cursor as cursors
from gateway.recorder.batches import Batch, halves
from gateway.recorder.cursor import Cursor, Range
from gateway.recorder.delivery import Delivery, Stopped, TooManyRows, stops_within
from gateway.recorder.entries import Entry, entry_of
from gateway.recorder.metrics import RecorderMetrics
from gateway.recorder.settings import RecorderSettings
from gateway.recorder.untold import last_words, told_after, untold_after, with_lost
from gateway.spool import segments
from gateway.spool.format import HEADER_BYTES
from gateway.spool.reader import Position, SpooledRecord, WorkerReader

log = logging.getLogger(__name__)


READ_RECORDS = 200
"""Read before others get their turn; some 10 ms of work."""
LIVENESS_S = 0.5
"""Between two looks at the lock of a worker that has nothing new."""
TORN_PATIENCE_S = 2.0
"""For a frame of a live worker to become whole; writing it takes microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the tailers of one recorder share."""

    delivery: Delivery
    metrics: RecorderMetrics
    stopping: asyncio.Event
    clock_s: Callable[[], float]
    rules: Callable[[], Rules]
    """The rules in force now."""
    batch_bytes: Callable[[], int]
    """How heavy a batch may be now."""


class WorkerTailer:
    """Carries one worker's records to the feature store until the worker is gone and empty.

    While one batch is on its way the next is gathered, so at most two are in hand.
    """

    def __init__(
        self,
        worker: str,
        settings: RecorderSettings,
        surroundings: Surroundings,
        *,
        is_dead: bool,
    ) -> None:
        self.worker = worker
        self.is_catching_up = is_dead
        """It was gone before we came: a backlog, which may not keep the living waiting."""
        self._settings = settings
        self._around = surroundings
        self._metrics = surroundings.metrics
        self._directory = settings.spool_dir / worker
        self._cursor_path = self._directory / segments.CURSOR_NAME
        self._cursor = Cursor()
        self._reader = WorkerReader(settings.spool_dir, worker)
        self._gathering = Batch(settings)
        self._under_way = Batch(settings)
        self._is_dead = is_dead
        self._look_again_at_s = 0.0
        self._torn_since_s: float | None = None
        self._lost_at_end = 0
        """Records that were given up after the last whole one; no number after them tells."""

    @property
    def oldest_us(self) -> int:
        """When the oldest exchange ended that is read and not acknowledged, in unix time; or 0."""
        return self._under_way.oldest_us or self._gathering.oldest_us

    async def run(self) -> None:
        """Until the recorder stops, or nothing of the worker is left; then its directory goes.

        Raises:
            BadSegment, BadCursor: this program cannot read the spool or the cursor.
        """
        try:
            self._cursor = cursors.load(self._cursor_path)
            self._lost_at_end = self._cursor.lost_at_end
            self._free_segments()  # we may have been killed before it
            self._wipe(HEADER_BYTES)
            await self._finish_pending()
            self._reader.position = self._cursor.done
            if await self._carry():
                await self._say_final()
                self._remove()
        except Stopped:
            return
        finally:
            self._reader.close()

    async def _carry(self) -> bool:
        """Everything there is and will be; False: the recorder stops before the end."""
        delivering: asyncio.Task[None] | None = None
        try:
            while True:
                is_end = not await self._gather(delivering)
                if delivering is not None:
                    await delivering
                batch, self._gathering = self._gathering, Batch(self._settings)
                if batch.entries:
                    self._under_way = batch
                    whole = Range(batch.entries[0].start, self._reader.position)
                    delivering = asyncio.get_running_loop().create_task(
                        self._deliver_new(whole, batch.entries, self._lost_at_end),
                        name=f"deliver {self.worker}",
                    )
                if is_end or self._around.stopping.is_set():
                    if delivering is not None:
                        await delivering
                    return is_end
        finally:
            if delivering is not None and not delivering.done():
                delivering.cancel()  # its range is on disk: it goes in next time
                await asyncio.gather(delivering, return_exceptions=True)

    async def _deliver_new(self, whole: Range, entries: list[Entry], lost_at_end: int) -> None:
        pending = replace(self._cursor, pending=(whole,), lost_at_end=lost_at_end)
        self._save(pending, durable=True)
        await self._deliver(whole, entries)
        await self._finish_pending()  # none, unless it was split

    async def _finish_pending(self) -> None:
        """Insert ranges that were on their way, each with the same records as before."""
        if not self._cursor.pending:
            return
        reader = WorkerReader(self._settings.spool_dir, self.worker)
        try:
            while self._cursor.pending:
                first = self._cursor.pending[0]
                records = reader.read_range(first.start, first.end)
                self._note_lost(first, records)
                await self._deliver(first, self._entries(first.start, records), is_repeat=True)
        finally:
            reader.close()

    async def _deliver(
        self, whole: Range, entries: list[Entry], *, is_repeat: bool = False
    ) -> None:
        """Insert the first pending range and acknowledge it, or split it if it was refused."""
        cursor = self._cursor
        rest = cursor.pending[1:]
        try:
            token = whole.token(self.worker)
            await self._around.delivery.deliver(entries, token, is_repeat=is_repeat)
        except TooManyRows as exc:
            log.warning("batch %s refused, split: %s", whole.token(self.worker), exc)
            self._metrics.splits.inc()
            pending = (*halves(whole, entries), *rest)
            self._save(replace(cursor, pending=pending), durable=True)
            return
        self._note_missing(entries)
        acknowledged = replace(
            cursor,
            done=whole.end,
            pending=rest,
            last_second=max([cursor.last_second, *(entry.second for entry in entries)]),
            is_final=cursor.is_final or any(x.tally and x.tally.final for x in entries),
            told=told_after(cursor.told, entries),
            untold=untold_after(cursor.untold, entries, cursor.last_second, cursor.told),
            key=next((x.key for x in reversed(entries) if x.ended_at_us), cursor.key),
        )
        self._acknowledge(acknowledged)
        self._under_way = Batch(self._settings)

    def _acknowledge(self, cursor: Cursor) -> None:
        """Move the cursor, and let nothing lie on disk before it."""
        before = self._cursor.done
        self._save(cursor, durable=False)
        self._free_segments()
        self._wipe(before.offset if before.segment == cursor.done.segment else HEADER_BYTES)

    def _wipe(self, start: int) -> None:
        """Of the cursor's segment, from byte `start` to the cursor."""
        done = self._cursor.done
        if start < done.offset:
            path = segments.segment_path(self._directory, done.segment)
            segments.wipe(path, start, done.offset)

    async def _gather(self, delivering: asyncio.Task[None] | None) -> bool:
        """Fill the next batch; False once the worker is gone and everything is read.

        Left empty only when there is no more, or the recorder stops.
        """
        batch, clock_s = self._gathering, self._around.clock_s
        while not batch.is_full(clock_s(), self._around.batch_bytes()):
            records = self._read_into(batch)
            self._report_cuts(records)
            if not records and not batch.entries and (delivering is None or delivering.done()):
                self._skip_nothing()
            if records:
                await asyncio.sleep(0)
            elif batch.is_enough():
                break
            elif self._is_dead:
                return False
            elif _has_failed(delivering) or await self._wait_for_more():
                break
        return True

    def _read_into(self, batch: Batch) -> list[SpooledRecord]:
        """Records that come next, now in the batch; no more once it is as heavy as it may be.

        A body of some KB may stand for a row of some MB, of which one is too many, not two hundred.
        """
        start = self._reader.position
        records = self._reader.read(READ_RECORDS, final=self._is_dead)
        rules, most_bytes = self._around.rules(), self._around.batch_bytes()
        for number, record in enumerate(records, 1):
            batch.add(entry_of(self.worker, start, record, rules), self._around.clock_s())
            start = record.end
            if batch.weight_bytes >= most_bytes and number < len(records):
                self._reader.rewind(record.end)
                return records[:number]
        return records

    def _skip_nothing(self) -> None:
        """Free a segment that is read to its end, as the writer may be waiting for its space; and
        note what was given up, so that it is not given up and counted again."""
        cursor, position, lost = self._cursor, self._reader.position, self._lost_at_end
        is_news = position.segment > cursor.done.segment or lost != cursor.lost_at_end
        if is_news and not cursor.pending:
            self._acknowledge(replace(cursor, done=position, lost_at_end=lost))

    async def _wait_for_more(self) -> bool:
        """Nothing whole is left to read. True: the recorder stops."""
        now_s = self._around.clock_s()
        if not self._reader.torn:
            self._torn_since_s = None
        elif self._torn_since_s is None:
            self._torn_since_s = now_s
        elif now_s - self._torn_since_s >= TORN_PATIENCE_S:
            self._reader.cut()
            self._report_cuts(())
            self._torn_since_s = None
        if now_s >= self._look_again_at_s:
            self._look_again_at_s = now_s + LIVENESS_S
            if not segments.is_alive(self._settings.spool_dir, self.worker):
                self._is_dead = True  # read once more: it wrote until it let go of its lock
                return False
        return await stops_within(self._around.stopping, self._settings.poll_s)

    def _entries(self, start: Position, records: list[SpooledRecord]) -> list[Entry]:
        rules = self._around.rules()
        entries = []
        for record in records:
            entries.append(entry_of(self.worker, start, record, rules))
            start = record.end
        return entries

    def _note_lost(self, whole: Range, records: list[SpooledRecord]) -> None:
        """Records at the end of a range that were there when it was first read."""
        last = records[-1].end.sequence if records else whole.start.sequence
        lost = whole.end.sequence - last
        if lost > 0:
            self._metrics.missing.labels(worker_index(self.worker)).inc(lost)
            log.error("worker %s: %d records before %s are gone", self.worker, lost, whole.end)

    def _note_missing(self, entries: list[Entry]) -> None:
        """Said once, when the records around the gap are stored."""
        for entry in entries:
            if entry.missing:
                self._metrics.missing.labels(worker_index(self.worker)).inc(entry.missing)
                log.error(
                    "worker %s: %d records are missing just before %s",
                    self.worker,
                    entry.missing,
                    entry.end,
                )

    def _report_cuts(self, records: Sequence[SpooledRecord]) -> None:
        """What was given up while `records` were read, between them or after the last."""
        if records:
            self._lost_at_end = 0  # the next record's number tells what is missing before it
        for cut in self._reader.cuts:
            self._metrics.cuts.inc()
            log.warning(
                "worker %s: no whole record at %s, going on at %s",
                self.worker,
                cut.at,
                cut.resumed_at,
            )
            if not records or records[-1].end.is_before(cut.resumed_at):
                self._lost_at_end += cut.records
        self._reader.cuts.clear()

    async def _say_final(self) -> None:
        """Say what a worker that was killed could not, and let the watermark pass it."""
        cursor, lost = self._cursor, self._lost_at_end
        if lost:
            self._metrics.missing.labels(worker_index(self.worker)).inc(lost)
            log.error("worker %s: at least %d records at its end are gone", self.worker, lost)
        if cursor.is_final or not cursor.last_second:
            return
        told = with_lost(cursor.untold, lost, cursor.last_second, cursor.key)
        tallies = last_words(self.worker, told, cursor.last_second)
        untold = sum(each.answered for each in cursor.untold)
        if untold:
            log.warning("worker %s: %d answers after its last tally", self.worker, untold)
        for tally in tallies:
            kind = "final" if tally.final else "last"
            await self._around.delivery.deliver_tally(tally, f"{self.worker}/{kind}-{tally.second}")

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


def worker_index(worker: str) -> str:
    """The part of a worker's name that stays the same when it is started again."""
    return worker.partition("-")[0]


def _has_failed(task: asyncio.Task[None] | None) -> bool:
    return task is not None and task.done() and task.exception() is not None
