"""The gateway worker's side of the spool: copy an ended exchange to disk in microseconds."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
from collections import deque
from mmap import mmap
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from time import sleep
from zlib import crc32

import msgspec

from gateway.record import ExchangeRecord
from gateway.settings import SpoolSettings
from gateway.spool import segments
from gateway.spool.encoding import encode_exchange
from gateway.spool.format import (
    ALIGNMENT,
    FRAME,
    HEADER_BYTES,
    MAX_SEGMENT_BYTES,
    MIN_LIMIT_BYTES,
    MIN_SEGMENT_BYTES,
    SEAL,
    SEGMENTS_PER_LIMIT,
    aligned,
    encode_tally,
)
from gateway.spool.fsync import Syncer
from mlops.contracts.tally import Tally

log = logging.getLogger(__name__)

READY_AHEAD = 2
"""Segments waiting, touched: at 20 MB/s 200 ms to make the next one."""
REST_S = 0.002
"""After each step and piece of making and unmapping a segment: longer than a busy event loop takes
for what is waiting, so that no request is held up by two of them. A segment takes about 40 ms so;
at 20 MB/s one lasts 100."""
SHORTAGE_RETRY_S = 0.25
"""How long after the spool or the disk was full it is looked at again."""
CLOSE_S = 5.0
"""Longest wait for the preparing thread at the end; it is a daemon, so it cannot keep us here."""

NOT_READY = "not_ready"
SPOOL_FULL = "spool_full"
DISK_FULL = "disk_full"
DISK_ERROR = "disk_error"
TOO_LARGE = "too_large"
UNENCODABLE = "unencodable"
CLOSED = "closed"

_HEAD_BYTES = FRAME.size
_PADDING = ALIGNMENT - 1
_publish = FRAME.pack_into
"""Stores the length last: from then on a reader sees the frame."""
_tally_encoder = msgspec.json.Encoder()


class SpoolWriter:
    """One worker incarnation's segments. `offer` and `offer_tally` belong to one thread."""

    def __init__(
        self, spool: Path, worker: str, limit_bytes: int, fsync_s: float | None = None
    ) -> None:
        """Use `open`: this alone makes no directory and starts no thread."""
        self.worker = worker
        self.dropped: dict[str, int] = {}
        """By reason, since the start."""
        self.last_drop_reason = ""
        """Of the most recent False."""
        self.segment_bytes = segment_bytes_for(limit_bytes)
        self._largest = self.segment_bytes - HEADER_BYTES - FRAME.size - ALIGNMENT
        self._preparer = _Preparer(spool, worker, self.segment_bytes, limit_bytes)
        if fsync_s is not None:
            self._preparer.syncer = Syncer(fsync_s, self._written)
        self._body = bytearray()
        """Where each record is encoded. Grows with them, to half as much again as fits a segment;
        what held a larger one is given back."""
        self._memory: mmap | None = None
        self._at = 0
        self._last = 0
        """Last offset where a frame could still end: after it there is room for the seal."""
        self._sequence = 0
        self._closed = False

    @classmethod
    def open(cls, settings: SpoolSettings, worker_index: int = 0) -> SpoolWriter:
        """Make this incarnation's directory and its first segments. Blocks; at start only.

        A full disk or spool does not stop the gateway: it starts, and drops and counts.

        Raises:
            ValueError: the limit is too small to hold anything.
            OSError: the directory cannot be made, and not because the disk is full.
        """
        worker = f"{worker_index}-{secrets.token_hex(6)}"
        writer = cls(settings.dir, worker, settings.limit_bytes, settings.fsync_s)
        writer._preparer.open()
        writer._next_segment()
        return writer

    def offer(self, record: ExchangeRecord) -> bool:
        """Copy `record` to the spool. Never blocks, never raises; False: dropped and counted."""
        try:
            body = self._body
            sequence = self._sequence + 1
            encode_exchange(record, sequence, body)
            # `_append`, written out: a tenth of the time went into its call and its lookups
            size = len(body)
            at = self._at
            start = at + _HEAD_BYTES
            end = start + size
            memory = self._memory
            if end > self._last or memory is None:
                return self._append(body)
            memory[start:end] = body
            _publish(memory, at, crc32(body), size)
            self._at = (end + _PADDING) & ~_PADDING
            self._sequence = sequence
        except Exception as exc:
            return self._drop_unencodable("an exchange", exc)
        return True

    def offer_tally(self, tally: Tally) -> bool:
        """Copy `tally` to the spool, with the same promise as `offer`."""
        try:
            encode_tally(_tally_encoder.encode(tally), self._sequence + 1, self._body)
            return self._append(self._body)
        except Exception as exc:
            return self._drop_unencodable("a tally", exc)

    def close(self) -> None:
        """Seal, remove segments that were never used, stop the thread, let go of the lock."""
        if self._closed:
            return
        self._closed = True
        self._seal()
        self._preparer.close()

    def _written(self) -> tuple[mmap | None, int]:
        """The segment being written, and up to where; asked by the preparing thread."""
        while True:
            memory, at = self._memory, self._at
            if memory is self._memory:
                return memory, at

    def _append(self, body: bytearray) -> bool:
        size = len(body)
        if self._at + _HEAD_BYTES + size > self._last and not self._make_room(size):
            return False
        memory, at = self._memory, self._at  # of the next segment, it may be
        assert memory is not None, "without a segment _last is 0, so _make_room has found one"
        start = at + _HEAD_BYTES
        end = start + size
        memory[start:end] = body
        _publish(memory, at, crc32(body), size)
        self._at = aligned(end)
        self._sequence += 1
        return True

    def _make_room(self, body_bytes: int) -> bool:
        """Go on to a segment with room for a body; False: counted."""
        if self._closed:
            return self._drop(CLOSED)
        if body_bytes > self._largest:
            self._body = bytearray()  # to give the memory back
            return self._drop(TOO_LARGE)
        return self._next_segment() or self._drop(self._preparer.shortage)

    def _next_segment(self) -> bool:
        following = self._preparer.take()
        if following is None:
            if self._preparer.shortage != NOT_READY:
                self._seal()  # full but unsealed, it could not be read to its end and freed
            return False
        self._seal()
        self._memory = following
        self._at = HEADER_BYTES
        self._last = len(following) - ALIGNMENT
        return True

    def _seal(self) -> None:
        if self._memory is None:
            return
        FRAME.pack_into(self._memory, self._at, 0, SEAL)
        self._preparer.release(self._memory)
        self._memory = None
        self._at = self._last = 0

    def _drop(self, reason: str) -> bool:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self.last_drop_reason = reason
        return False

    def _drop_unencodable(self, what: str, failure: Exception) -> bool:
        if UNENCODABLE not in self.dropped:  # the first one says enough
            log.error("%s could not be encoded, it is dropped: %s", what, failure, exc_info=failure)
        self._body = bytearray()
        return self._drop(UNENCODABLE)


def segment_bytes_for(limit_bytes: int) -> int:
    """Size of a segment under a limit.

    Raises:
        ValueError: not even the smallest segments fit.
    """
    if limit_bytes < MIN_LIMIT_BYTES:
        raise ValueError(f"spool.limit is {limit_bytes} bytes, expected at least {MIN_LIMIT_BYTES}")
    share = limit_bytes // SEGMENTS_PER_LIMIT
    return min(MAX_SEGMENT_BYTES, share - share % MIN_SEGMENT_BYTES)


class _Preparer:
    """Allocates, maps and touches segments in a thread of its own, ahead of need.

    Between the threads there are two queues, both safe under the interpreter's lock: `_ready`, at
    most `READY_AHEAD` long, and `_used`, what is to be unmapped; putting into it also wakes.
    """

    def __init__(self, spool: Path, worker: str, segment_bytes: int, limit_bytes: int) -> None:
        self.shortage = NOT_READY
        """Why nothing is ready, when nothing is."""
        self.syncer: Syncer | None = None
        """None: the kernel writes out when it likes."""
        self._spool = spool
        self._directory = spool / worker
        self._segment_bytes = segment_bytes
        self._limit_bytes = limit_bytes
        self._ready: deque[mmap] = deque()
        self._used: SimpleQueue[mmap | None] = SimpleQueue()
        self._made = 0
        self._taken = 0
        self._lock: int | None = None
        self._stopping = False
        self._preparing = Thread(target=self._run, name="spool segments", daemon=True)

    def open(self) -> None:
        try:
            self._claim()
        except OSError as exc:
            if not _is_full(exc):
                raise
        self._prepare()  # which says so, where the disk is full, and tries again later
        self._preparing.start()

    def _claim(self) -> None:
        """Make our directory and take its lock: both, or neither, which would pass for a worker
        that is gone."""
        self._spool.mkdir(mode=segments.DIRECTORY_MODE, parents=True, exist_ok=True)
        with segments.locked(self._spool) as usage:
            usage.count()
            self._directory.mkdir(mode=segments.DIRECTORY_MODE)
            try:
                self._lock = segments.take_lock(self._directory / segments.LOCK_NAME)
            except OSError:
                self._directory.rmdir()
                raise
        assert self._lock is not None, "the directory is new, nobody else can hold its lock"
        if self.syncer is not None:
            segments.sync_directory(self._spool)

    def take(self) -> mmap | None:
        """The next segment, if one is ready."""
        try:
            memory = self._ready.popleft()
        except IndexError:
            return None
        self._taken += 1
        self._used.put(None)
        return memory

    def release(self, memory: mmap) -> None:
        """Unmapping takes the kernel a while, so it is done over there."""
        self._used.put(memory)

    def close(self) -> None:
        self._stopping = True
        self._used.put(None)
        self._preparing.join(CLOSE_S)
        self._unmap_used()
        if self.syncer is not None:
            self.syncer.finish()
        with contextlib.suppress(OSError):  # then the recorder removes them
            unused = range(self._taken + 1, self._made + 1)
            segments.remove_segments(self._spool, self._directory.name, unused)
        while self._ready:
            segments.unmap(self._ready.popleft(), self._rest)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _run(self) -> None:
        while not self._stopping:
            short = len(self._ready) < READY_AHEAD
            with contextlib.suppress(Empty):
                # Nothing is missing: sleep until something is taken. Else: look again soon.
                wait_s = SHORTAGE_RETRY_S if short else None
                if self.syncer is not None:
                    wait_s = self.syncer.wait_s(wait_s)
                self._unmap(self._used.get(timeout=wait_s))
            self._unmap_used()
            self._prepare()
            if self.syncer is not None:
                self.syncer.sync_if_due()

    def _rest(self) -> None:
        """Let an event loop on our core get on: without a sleep the scheduler would leave us there
        until all is done. Not where it has no segment ahead: then this one is waited for."""
        if self._ready and not self._stopping:
            sleep(REST_S)

    def _unmap_used(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                self._unmap(self._used.get_nowait())

    def _unmap(self, used: mmap | None) -> None:
        if used is None:
            return
        if self.syncer is not None:
            self.syncer.finish_segment(used)
        segments.unmap(used, self._rest)

    def _prepare(self) -> None:
        """Make segments until enough are ready, or say in `shortage` why not."""
        while len(self._ready) < READY_AHEAD and not self._stopping:
            try:
                shortage = self._make()
            except Exception as exc:  # without this thread there is no spool: it never ends
                shortage = DISK_FULL if _is_full(exc) else DISK_ERROR
                if shortage != self.shortage:
                    log.warning("no segment for worker %s: %s", self._directory.name, exc)
            if shortage == SPOOL_FULL != self.shortage:
                log.warning(
                    "the spool %s has reached its limit of %d bytes; records are dropped "
                    "until the recorder has caught up",
                    self._spool,
                    self._limit_bytes,
                )
            self.shortage = shortage
            if shortage != NOT_READY:
                return

    def _make(self) -> str:
        if self._lock is None:
            self._claim()
        number = self._made + 1
        with segments.locked(self._spool) as usage:  # so that workers together keep the limit
            if usage.bytes() + self._segment_bytes > self._limit_bytes:
                return SPOOL_FULL
            segments.make_segment(self._directory, number, self._segment_bytes)
            usage.add(self._segment_bytes)
        self._rest()
        try:
            memory = segments.map_segment(self._directory, number, self._rest)
            if self.syncer is not None:
                segments.sync_directory(self._directory)
            self._ready.append(memory)
        except OSError:
            with segments.locked(self._spool) as usage:
                usage.add(-self._segment_bytes)
            raise
        self._made = number
        return NOT_READY


def _is_full(failure: Exception) -> bool:
    return isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT)
