"""Bytes of a segment, to the letter. Pure. docs/spool.md has the picture.

A segment is a header and then frames, each starting on a multiple of 8. A frame is a checksum, a
length and a body; the length is stored last, so that whoever looks sees a whole frame or none.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from struct import error as StructError
from typing import NamedTuple
from zlib import crc32

from gateway.record import ExchangeRecord

VERSION = 1
"""Written into every segment; a reader refuses a segment of another version."""

MAGIC = b"GWSPOOL\n"
HEADER_BYTES = 64
"""Of a segment; the first frame starts here."""
_HEADER = Struct("<8sHHI40s")
_CHECKSUM = Struct("<I")

FRAME = Struct("<II")
"""Checksum of the body, then its length: packed in this order, the length is stored last."""
SEAL = 0xFFFF_FFFF
"""As a length: the writer is done with this segment. Room for it is always kept."""

ALIGNMENT = 8
"""A frame's head never crosses a cache line, so its length is stored in one piece."""

MIN_SEGMENT_BYTES = 256 * 1024
"""Takes a record with two bodies of 64 KiB, the default bound, and its heads."""
MAX_SEGMENT_BYTES = 4 * 1024**2
"""A worker holds three, touched: 12 MiB of its memory. At 20 MB/s one lasts 200 ms."""

WHOLE = Struct("<QB")
"""Start of every body: sequence number of the worker's record, and its type."""

EXCHANGE = Struct("<QBBBBBBHHHHHHHHHIIIIQQQQQQQ")
"""`WHOLE`, then the rest of an exchange's numbers; the byte strings follow in `_parts` order."""


class RecordType(IntEnum):
    EXCHANGE = 1
    TALLY = 2


class BadRecord(ValueError):
    """The frame is whole, but its body is not a record that this version can read."""


class BadSegment(ValueError):
    """The file does not start with the header of a segment of this version."""


class Frame(NamedTuple):
    """One whole frame, as found in a segment."""

    offset: int
    """Where the frame starts in its segment."""
    end: int
    """Where the next one starts."""
    body: bytes

    @property
    def sequence(self) -> int:
        return int(WHOLE.unpack_from(self.body)[0])

    @property
    def kind(self) -> int:
        """A `RecordType`, or a number that a later version wrote."""
        return int(WHOLE.unpack_from(self.body)[1])


class Stop(IntEnum):
    """Why there is no whole frame here."""

    EMPTY = 0
    """Nothing is written here yet."""
    SEALED = 1
    TORN = 2
    """Something is here that is not whole: just being written, or cut off by a crash."""


def encode_header(worker: str, segment: int) -> bytes:
    """The first `HEADER_BYTES` of a segment."""
    head = _HEADER.pack(MAGIC, VERSION, HEADER_BYTES, segment, worker.encode())
    padded = head.ljust(HEADER_BYTES - _CHECKSUM.size, b"\0")
    return padded + _CHECKSUM.pack(crc32(padded))


def check_header(data: bytes, worker: str, segment: int) -> None:
    """Raise `BadSegment` unless `data` is the header of this segment, in this version."""
    if len(data) < HEADER_BYTES or data[: len(MAGIC)] != MAGIC:
        raise BadSegment(f"segment {worker}/{segment} does not start with {MAGIC!r}")
    version = int.from_bytes(data[8:10], "little")
    if version != VERSION:
        raise BadSegment(
            f"segment {worker}/{segment} has version {version}; this program reads {VERSION}"
        )
    if data[:HEADER_BYTES] != encode_header(worker, segment):
        raise BadSegment(f"the header of segment {worker}/{segment} is not its own or is damaged")


def aligned(offset: int) -> int:
    """The next place where a frame may start."""
    return (offset + ALIGNMENT - 1) & -ALIGNMENT


def frame_at(data: bytes | memoryview, at: int, offset: int) -> Frame | Stop:
    """The frame at `data[at:]`, which is byte `offset` of its segment.

    `data` must hold everything up to the end of the segment, or of what was read of it; a frame
    that goes on past the end of `data` counts as torn.
    """
    if at + FRAME.size > len(data):
        return Stop.EMPTY
    checksum, length = FRAME.unpack_from(data, at)
    if length == 0:
        return Stop.EMPTY
    if length == SEAL:
        return Stop.SEALED
    start = at + FRAME.size
    body = bytes(data[start : start + length])
    if length < WHOLE.size or len(body) < length or crc32(body) != checksum:
        return Stop.TORN
    return Frame(offset, aligned(offset + FRAME.size + length), body)


def frame_bytes_at(data: bytes | memoryview, at: int) -> int:
    """How many bytes the frame at `data[at:]` says it has, head included; 0 if it says nothing."""
    if at + FRAME.size > len(data):
        return 0
    length: int = FRAME.unpack_from(data, at)[1]
    return 0 if length in (0, SEAL) else FRAME.size + length


def encode_exchange(record: ExchangeRecord, sequence: int) -> bytes:
    """The body of an exchange's frame. Called on the request path: one pack and one join."""
    stamp = record.stamp
    request_id = record.request_id
    method = record.method
    target = record.target
    request_type = record.request_content_type
    request_encoding = record.request_content_encoding
    response_type = record.response_content_type
    response_encoding = record.response_content_encoding
    request_body = record.request_body
    response_body = record.response_body
    numbers = EXCHANGE.pack(
        sequence,
        RecordType.EXCHANGE,
        record.outcome,
        record.first_attempt_outcome,
        record.kind,
        record.attempts if record.attempts < 256 else 255,
        record.request_body_cut | record.response_body_cut << 1,
        record.status,
        record.bucket,
        len(stamp),
        len(request_id),
        len(method),
        len(request_type),
        len(request_encoding),
        len(response_type),
        len(response_encoding),
        len(target),
        len(request_body),
        len(response_body),
        record.events,
        record.max_event_gap_us,
        record.started_at_us,
        record.ended_at_us,
        record.latency_us,
        record.first_byte_us,
        record.request_bytes,
        record.response_bytes,
    )
    return b"".join(
        (
            numbers,
            stamp,
            request_id,
            method,
            request_type,
            request_encoding,
            response_type,
            response_encoding,
            target,
            request_body,
            response_body,
        )
    )


def encode_tally(encoded: bytes, sequence: int) -> bytes:
    """The body of a tally's frame; `encoded` is the tally as JSON."""
    return WHOLE.pack(sequence, RecordType.TALLY) + encoded


def tally_of(body: bytes) -> bytes:
    """The JSON of a tally, out of the body of its frame."""
    return body[WHOLE.size :]


def decode_exchange(body: bytes) -> ExchangeRecord:
    """The record in the body of an exchange's frame.

    Raises:
        BadRecord: the body is shorter or longer than its own lengths say.
    """
    try:
        numbers = EXCHANGE.unpack_from(body)
    except StructError as exc:
        raise BadRecord(f"exchange of {len(body)} bytes, at least {EXCHANGE.size}") from exc
    record = ExchangeRecord()
    _, _, record.outcome, record.first_attempt_outcome, record.kind = numbers[:5]
    record.attempts, flags, record.status, record.bucket = numbers[5:9]
    record.request_body_cut, record.response_body_cut = bool(flags & 1), bool(flags & 2)
    record.events, record.max_event_gap_us = numbers[19:21]
    record.started_at_us, record.ended_at_us, record.latency_us = numbers[21:24]
    record.first_byte_us, record.request_bytes, record.response_bytes = numbers[24:27]
    lengths = numbers[9:19]
    if EXCHANGE.size + sum(lengths) != len(body):
        raise BadRecord(
            f"exchange of {len(body)} bytes, but its parts sum to {EXCHANGE.size + sum(lengths)}"
        )
    parts, at = [], EXCHANGE.size
    for length in lengths:
        parts.append(body[at : at + length])
        at += length
    record.stamp, record.request_id, record.method = parts[:3]
    record.request_content_type, record.request_content_encoding = parts[3:5]
    record.response_content_type, record.response_content_encoding = parts[5:7]
    record.target, record.request_body, record.response_body = parts[7:]
    return record
