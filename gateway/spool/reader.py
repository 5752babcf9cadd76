"""The recorder's side of the spool: whole frames of one worker, in order, from a position on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from gateway.spool import segments
from gateway.spool.format import (
    FRAME,
    HEADER_BYTES,
    MAX_SEGMENT_BYTES,
    DamagedHeader,
    Frame,
    Stop,
    aligned,
    check_header,
    frame_at,
    frame_bytes_at,
    heads_in,
)

READ_BYTES = 1024**2
"""Read at a time; one frame may be longer, up to a segment."""


class Position(msgspec.Struct, frozen=True, gc=False):
    """A place between two frames."""

    segment: int = 1
    offset: int = HEADER_BYTES
    sequence: int = 1
    """Of the first record after this place, if none is missing."""

    def __str__(self) -> str:
        return f"{self.segment}-{self.offset}"

    def is_before(self, other: Position) -> bool:
        """In the spool of the same worker; sequence numbers are not looked at."""
        return (self.segment, self.offset) < (other.segment, other.offset)


class SpooledRecord(NamedTuple):
    """A whole frame, and where the reader stands after it."""

    frame: Frame
    segment: int
    """That it lies in."""
    missing: int
    """Sequence numbers skipped just before it; 0 unless something was damaged."""
    end: Position
    """Just after it."""


class Cut(NamedTuple):
    """Bytes that are not a whole frame, although nobody will finish them."""

    at: Position
    resumed_at: Position
    records: int
    """That were there at least: as many as the lengths tell, where those can still be read. A
    record that follows tells exactly, by its number."""


class WorkerReader:
    """Reads one worker's directory. Keeps one file open; blocks only for the disk."""

    def __init__(self, spool: Path, worker: str, start: Position | None = None) -> None:
        self.worker = worker
        self.position = start or Position()
        """Where the next read starts."""
        self.torn = False
        """The last read ended at bytes that are not a whole frame (yet)."""
        self.cuts: list[Cut] = []
        """What was given up; whoever reports it clears it. At most one for each frame, and one for
        each header."""
        self._directory = spool / worker
        self._open_segment = 0
        self._descriptor = -1
        self._data = b""
        self._data_at = 0

    def read(self, limit: int, *, final: bool) -> list[SpooledRecord]:
        """At most `limit` records from `position` on, and not much more than `READ_BYTES` of them.

        Fewer where the whole frames end, for now or for good.

        With `final`, nobody writes any more: what is torn is cut. Without it, a torn frame ends
        the read, as the writer may be in the middle of it.

        Raises:
            BadSegment: a segment is of another version, or not the writer's.
        """
        found: list[SpooledRecord] = []
        size = 0
        self.torn = False
        while len(found) < limit and size < READ_BYTES:
            frame = self._frame(self.position)
            if isinstance(frame, Frame):
                size += len(frame.body)
                end = Position(self.position.segment, frame.end, frame.sequence + 1)
                missing = frame.sequence - self.position.sequence
                found.append(SpooledRecord(frame, self.position.segment, missing, end))
                self.position = end
            elif frame is Stop.TORN:
                if not final:
                    self.torn = True
                    break
                self.cut()
            elif frame is Stop.SEALED:
                self.position = Position(
                    self.position.segment + 1, HEADER_BYTES, self.position.sequence
                )
            elif not final or not self._go_on():
                break
        return found

    def read_range(self, start: Position, end: Position) -> list[SpooledRecord]:
        """Every record from `start` to `end`, two places that reads have stopped at before.

        What was cut then is cut again at the same bytes, so the same records come. Where bytes
        have changed since, fewer do, and never one from behind `end`: that is in another range.
        """
        self.position = start
        found: list[SpooledRecord] = []
        while self.position.is_before(end):
            before = self.position
            found += self.read(1, final=True)
            if self.position == before:
                break  # the files have gone
        while found and end.is_before(found[-1].end):
            found.pop()
        self.position = end
        self.cuts.clear()
        return found

    def cut(self) -> None:
        """Give up the torn frame at `position`, and note it.

        Skips that frame alone if the next one is whole and its successor; else the rest of the
        segment. A damaged length leads nowhere, and a record read from where it happens to point
        would be worse than one missing, so only the very next sequence number is believed.
        """
        torn = self.position
        records = 1
        size = frame_bytes_at(self._data, torn.offset - self._data_at)
        after = Position(torn.segment, aligned(torn.offset + size), torn.sequence + 1)
        following = self._frame(after) if size > FRAME.size else Stop.EMPTY
        if isinstance(following, Frame) and following.sequence == after.sequence:
            # Its sequence number stays expected, so the next record says that one is missing.
            self.position = Position(torn.segment, after.offset, torn.sequence)
        else:
            rest = os.pread(self._descriptor, MAX_SEGMENT_BYTES, torn.offset)
            records = max(1, heads_in(rest))
            if not self._go_on():
                end = torn.offset + len(rest)
                self.position = Position(torn.segment, end, torn.sequence)
        self.torn = False
        self.cuts.append(Cut(torn, self.position, records))

    def rewind(self, position: Position) -> None:
        """Go back to the end of a record that the last read gave: what came after it comes again.

        So do the cuts there; those that are noted are forgotten.
        """
        self.position = position
        self.torn = False
        self.cuts = [cut for cut in self.cuts if cut.at.is_before(position)]

    def segments(self) -> list[int]:
        """Numbers of the segment files that are there."""
        return segments.segments_of(self._directory)

    def close(self) -> None:
        """Let go of the file; reading again opens it again."""
        if self._open_segment:
            os.close(self._descriptor)
        self._open_segment = 0
        self._data = b""

    def _go_on(self) -> bool:
        """Step into the next segment, if there is one."""
        later = [number for number in self.segments() if number > self.position.segment]
        if not later:
            return False
        self.position = Position(later[0], HEADER_BYTES, self.position.sequence)
        return True

    def _frame(self, position: Position) -> Frame | Stop:
        """The frame at a position, reading only where what is in memory does not tell."""
        frame = self._frame_in_memory(position)
        if frame is Stop.SEALED or isinstance(frame, Frame):
            return frame
        if not self._open(position.segment):
            return Stop.EMPTY
        head = os.pread(self._descriptor, FRAME.size, position.offset)
        wanted = frame_bytes_at(head, 0)
        if not wanted:
            return frame_at(head, 0, position.offset)
        if wanted > MAX_SEGMENT_BYTES:
            self._data, self._data_at = head, position.offset
            return Stop.TORN  # no writer's length, and not worth allocating so much for
        self._data = os.pread(self._descriptor, max(wanted, READ_BYTES), position.offset)
        self._data_at = position.offset
        return self._frame_in_memory(position)

    def _frame_in_memory(self, position: Position) -> Frame | Stop:
        at = position.offset - self._data_at
        if self._open_segment != position.segment or not 0 <= at < len(self._data):
            return Stop.EMPTY
        return frame_at(self._data, at, position.offset)

    def _open(self, segment: int) -> bool:
        """Make `segment` the open file; False: there is no such segment (yet)."""
        if self._open_segment == segment:
            return True
        self.close()
        path = segments.segment_path(self._directory, segment)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            check_header(os.pread(descriptor, HEADER_BYTES, 0), self.worker, segment)
        except DamagedHeader:
            # What lies behind it has checksums of its own; zeros are passed over like any end.
            start = Position(segment, HEADER_BYTES, self.position.sequence)
            self.cuts.append(Cut(replace(start, offset=0), start, 0))
        except ValueError:
            os.close(descriptor)
            raise
        self._descriptor, self._open_segment = descriptor, segment
        return True
