"""A line of JSON for an ended exchange, written by a thread: the event loop only queues it.

What a line may hold is fixed here: no header, no body, no query string, no key, no address of a
client, for those are where secrets and people are. `request_id` leads from a line to the row with
the features.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway import trace_context
from gateway.record import KINDS, OUTCOMES
from gateway.stamp import Stamp

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.lanes import Lane

log = logging.getLogger(__name__)

MAX_WAITING: Final = 10_000
"""Lines in the queue, some 4 MB; past it the newest are dropped and counted. At 5,000 lines a
second a disk may hang for two seconds."""

FLUSH_S: Final = 0.2
"""From the first line in an empty queue until they are written together."""

WARN_EVERY: Final = 10_000
"""Lines lost to a failing file between two warnings; the first is always told."""

STDOUT: Final = "-"
FILE_MODE: Final = 0o640

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Line(msgspec.Struct, kw_only=True):
    """The fields, in the order in which they stand in a line."""

    time: datetime
    """When the request began."""
    request_id: str
    trace_id: str
    route: str
    arm: str
    served_arm: str
    version: str
    endpoint: str
    """Of the last attempt; empty where none was made."""
    generation: int
    kind: str
    method: str
    path: str
    """Without the query."""
    status: int
    outcome: str
    attempts: int
    duration_ms: float
    first_byte_ms: float
    gateway_ms: float
    """Of it, what the gateway itself took."""
    request_bytes: int
    response_bytes: int
    events: int


class AccessLog:
    """One file, appended to. Several workers may share it: a write is of whole lines."""

    def __init__(self, path: str) -> None:
        """`path` is a file's, or `-` for the standard output.

        Raises:
            OSError: the file cannot be opened; names it.
        """
        self.dropped = 0
        """Lines that were not written, since the start."""
        self._path = path
        self._file = _open(path)
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    def note(self, exchange: Exchange, lane: Lane) -> None:
        """Queue a line; the values are copied, the exchange with its bodies is not held."""
        waiting = self._waiting
        if len(waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        waiting.append(
            (
                lane.stamp_of(exchange),
                exchange.request_id,
                exchange.traceparent or exchange.headers.get(trace_context.HEADER, b""),
                exchange.kind,
                exchange.method,
                exchange.target,
                exchange.started_at_us,
                exchange.status,
                exchange.outcome,
                exchange.attempts,
                exchange.latency_us,
                exchange.first_byte_us,
                exchange.own_ns,
                exchange.request_bytes,
                exchange.response_bytes,
                exchange.events,
            )
        )
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._closing.set()
        self._wake.set()
        self._thread.join()
        if self._path != STDOUT:
            os.close(self._file)

    # ---- in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._closing.wait(FLUSH_S)
            self._wake.clear()
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        waiting = self._waiting
        count = len(waiting)
        if not count:
            return
        encode = msgspec.json.encode
        text = b"".join(encode(line_of(waiting.popleft())) + b"\n" for _ in range(count))
        try:
            self._follow_rotation()
            while text:
                text = text[os.write(self._file, text) :]
        except OSError as exc:
            self._lose(count, exc)

    def _lose(self, count: int, exc: OSError) -> None:
        self.dropped += count
        if self._lost == 0 or self._lost // WARN_EVERY != (self._lost + count) // WARN_EVERY:
            log.warning("access log %s: %d lines were lost: %s", self._path, count, exc)
        self._lost += count

    def _follow_rotation(self) -> None:
        """Open the file anew where somebody has moved it away."""
        if self._path == STDOUT:
            return
        try:
            found = Path(self._path).stat()
        except FileNotFoundError:
            found = None
        mine = os.fstat(self._file)
        if found is None or (found.st_ino, found.st_dev) != (mine.st_ino, mine.st_dev):
            fresh = _open(self._path)
            os.close(self._file)
            self._file = fresh


def _open(path: str) -> int:
    if path == STDOUT:
        return 1
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)


def line_of(noted: tuple[Any, ...]) -> Line:
    """The line of what `AccessLog.note` queued."""
    (
        stamp_bytes,
        request_id,
        traceparent,
        kind,
        method,
        target,
        started_at_us,
        status,
        outcome,
        attempts,
        latency_us,
        first_byte_us,
        own_ns,
        request_bytes,
        response_bytes,
        events,
    ) = noted
    stamp = _stamp(stamp_bytes)
    parent = trace_context.parse(traceparent[: trace_context.HEADER_BYTES])
    return Line(
        time=_EPOCH + timedelta(microseconds=started_at_us),
        request_id=request_id.decode("utf-8", "replace"),
        trace_id=parent.trace_id.decode("ascii") if parent is not None else "",
        route=stamp.route,
        arm=stamp.arm,
        served_arm=stamp.served_arm,
        version=stamp.version,
        endpoint=stamp.endpoint,
        generation=stamp.generation,
        kind=KINDS[kind],
        method=method.decode("latin-1"),
        path=target.partition(b"?")[0].decode("latin-1"),
        status=status,
        outcome=OUTCOMES[outcome],
        attempts=attempts,
        duration_ms=latency_us / 1000,
        first_byte_ms=first_byte_us / 1000,
        gateway_ms=own_ns / 1e6,
        request_bytes=request_bytes,
        response_bytes=response_bytes,
        events=events,
    )


@lru_cache(maxsize=1_024)  # few plans, arms and endpoints are in force at a time
def _stamp(encoded: bytes) -> Stamp:
    return msgspec.json.decode(encoded, type=Stamp)
