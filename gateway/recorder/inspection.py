"""A look into a spool from outside: changes nothing, and may run beside gateway and recorder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gateway.recorder import cursor as cursors
from gateway.recorder.cursor import BadCursor, Cursor
from gateway.spool import segments
from gateway.spool.format import (
    BadRecord,
    BadSegment,
    RecordType,
    decode_exchange,
    tally_of,
)
from gateway.spool.reader import Position, SpooledRecord, WorkerReader

READ_RECORDS = 500
LOOKS = 5
"""At a spool that a recorder reads at the same time: it takes a batch a second, and we read all."""


class WorkerState(msgspec.Struct, kw_only=True):
    """One worker's directory at a glance."""

    worker: str
    alive: bool
    segments: int
    bytes: int
    acknowledged: str
    """Segment and offset up to which everything is in the feature store."""
    on_its_way: int
    """Ranges that were being inserted, or were when the recorder ended."""
    problem: str = ""


class WorkerReport(msgspec.Struct, kw_only=True):
    """What lies after the cursor, and whether it is whole."""

    worker: str
    alive: bool
    exchanges: int = 0
    tallies: int = 0
    missing: int = 0
    """Sequence numbers that were skipped."""
    cuts: list[str] = []
    """Where bytes are no whole record, of a worker that is gone: segment and offset."""
    unreadable: list[str] = []
    """Whole records that this program cannot read, by segment and sequence number."""
    problem: str = ""

    @property
    def is_whole(self) -> bool:
        """Nothing is damaged, as far as it was read."""
        return not (self.missing or self.cuts or self.unreadable or self.problem)


def workers(spool: Path) -> list[str]:
    """Names of the workers in a spool.

    Raises:
        OSError: there is no such directory.
    """
    return segments.workers_of(spool)


def states(spool: Path) -> list[WorkerState]:
    """How every worker's directory looks now, but for those that go meanwhile.

    Raises:
        OSError: there is no such spool.
    """
    found = []
    for worker in workers(spool):
        with contextlib.suppress(FileNotFoundError):
            found.append(_state_of(spool, worker))
    return found


def _state_of(spool: Path, worker: str) -> WorkerState:
    directory = spool / worker
    sizes = []
    for number in segments.segments_of(directory):
        with contextlib.suppress(FileNotFoundError):  # the recorder has just removed it
            sizes.append(segments.segment_path(directory, number).stat().st_size)
    problem, cursor = "", Cursor()
    try:
        cursor = cursors.load(directory / segments.CURSOR_NAME)
    except BadCursor as exc:
        problem = str(exc)
    return WorkerState(
        worker=worker,
        alive=segments.is_alive(spool, worker),
        segments=len(sizes),
        bytes=sum(sizes),
        acknowledged=str(cursor.done),
        on_its_way=len(cursor.pending),
        problem=problem,
    )


def verify(spool: Path, worker: str) -> WorkerReport:
    """Read everything that is not acknowledged, and say what of it is damaged.

    What a recorder acknowledges meanwhile is wiped while it is read: then it is read again.
    """
    for _ in range(LOOKS):
        start = _cursor_bytes(spool, worker)
        report = _verified(spool, worker)
        if report.is_whole or _cursor_bytes(spool, worker) == start:
            break
    return report


def _cursor_bytes(spool: Path, worker: str) -> bytes | None:
    try:
        return (spool / worker / segments.CURSOR_NAME).read_bytes()
    except FileNotFoundError:
        return None


def _verified(spool: Path, worker: str) -> WorkerReport:
    report = WorkerReport(worker=worker, alive=False)
    try:
        report.alive = segments.is_alive(spool, worker)
        for record in records(spool, worker, report):
            report.missing += max(0, record.missing)
            try:
                if record.frame.kind == RecordType.TALLY:
                    tally_of(record.frame.body)
                    report.tallies += 1
                else:
                    decode_exchange(record.frame.body)
                    report.exchanges += 1
            except BadRecord as exc:
                where = f"{record.segment}-{record.frame.sequence}"
                report.unreadable.append(f"{where}: {exc}")
    except FileNotFoundError:
        return WorkerReport(worker=worker, alive=False)  # all of it is stored, and it is gone
    except (BadSegment, BadCursor) as exc:
        report.problem = str(exc)
    return report


def records(
    spool: Path, worker: str, report: WorkerReport | None = None
) -> Iterator[SpooledRecord]:
    """Every whole record after the cursor, in order.

    Raises:
        BadSegment, BadCursor: this program cannot read them.
    """
    start: Position = cursors.load(spool / worker / segments.CURSOR_NAME).done
    reader = WorkerReader(spool, worker, start)
    is_dead = not segments.is_alive(spool, worker)
    try:
        while found := reader.read(READ_RECORDS, final=is_dead):
            yield from found
        if report is not None:
            report.cuts += [str(cut.at) for cut in reader.cuts]
    finally:
        reader.close()
