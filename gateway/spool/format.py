"""Bytes of a segment, to the letter. Pure. docs/spool.md has the picture.

A segment is a header and then frames, each starting on a multiple of 8. A frame is a checksum, a
length and a body; the length is stored last, so that whoever looks sees a whole frame or none.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Annotated, NamedTuple
from zlib import crc32

import msgspec

from gateway.spool.encoding import EXCHANGE

VERSION = 3
"""Written into every segment."""
READABLE_VERSIONS = (2, VERSION)
"""Segments outlive an upgrade, so the version before is read too; any other is refused.

2 had no `withheld`, `first_event_us` and `traceparent` at the end of an exchange.
"""

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
SEGMENTS_PER_LIMIT = 16
"""The spool's limit has room for at least so many segments, over all workers."""
MIN_LIMIT_BYTES = SEGMENTS_PER_LIMIT * MIN_SEGMENT_BYTES
MAX_SEGMENT_BYTES = 2 * 1024**2
"""A worker holds three, touched: 6 MiB of its memory. At 20 MB/s one lasts 100 ms."""


class RecordType(IntEnum):
    """What a frame holds. Numbers are on disk: they are added, never changed."""

    EXCHANGE = EXCHANGE
    TALLY = 2


_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Whole(msgspec.Struct, array_like=True, gc=False):
    """How every body starts, whatever follows: a body is a MessagePack array of these fields."""

    sequence: Annotated[int, msgspec.Meta(ge=1)]
    """Of the worker's record."""
    record_type: _Count


class _Tally(_Whole, array_like=True, forbid_unknown_fields=True):
    encoded: bytes
    """JSON."""


class SpooledExchange(_Whole, array_like=True, forbid_unknown_fields=True, gc=False):
    """The fields of an `ExchangeRecord`, in the order that `encode_exchange` writes them."""

    outcome: _Count
    first_attempt_outcome: _Count
    kind: _Count
    attempts: _Count
    status: _Count
    bucket: _Count
    events: _Count
    max_event_gap_us: _Count
    started_at_us: _Count
    ended_at_us: _Count
    latency_us: _Count
    first_byte_us: _Count
    request_bytes: _Count
    response_bytes: _Count
    request_body_cut: bool
    response_body_cut: bool
    stamp: bytes
    request_id: bytes
    method: bytes
    target: bytes
    request_content_type: bytes
    request_content_encoding: bytes
    response_content_type: bytes
    response_content_encoding: bytes
    request_body: bytes
    response_body: bytes
    withheld: _Count = 0
    first_event_us: _Count = 0
    traceparent: bytes = b""


_encode_into = msgspec.msgpack.Encoder().encode_into
_whole_decoder = msgspec.msgpack.Decoder(_Whole)
_tally_decoder = msgspec.msgpack.Decoder(_Tally)
_exchange_decoder = msgspec.msgpack.Decoder(SpooledExchange)


class BadRecord(ValueError):
    """The frame is whole, but its body is not a record that this version can read."""


class BadSegment(ValueError):
    """The file does not start with the header of a segment that this program can read."""


class DamagedHeader(BadSegment):
    """The header is not whole: nobody wrote it so, and a power cut may have left zeros of it."""


class Frame(NamedTuple):
    """One whole frame, as found in a segment."""

    offset: int
    """Where the frame starts in its segment."""
    end: int
    """Where the next one starts."""
    body: bytes
    sequence: int
    kind: int
    """A `RecordType`, or a number that a later version wrote."""


class Stop(IntEnum):
    """Why there is no whole frame here."""

    EMPTY = 0
    """Nothing is written here yet."""
    SEALED = 1
    TORN = 2
    """Something is here that is not whole: just being written, or cut off by a crash."""


def encode_header(worker: str, segment: int, version: int = VERSION) -> bytes:
    """The first `HEADER_BYTES` of a segment."""
    head = _HEADER.pack(MAGIC, version, HEADER_BYTES, segment, worker.encode())
    padded = head.ljust(HEADER_BYTES - _CHECKSUM.size, b"\0")
    return padded + _CHECKSUM.pack(crc32(padded))


def check_header(data: bytes, worker: str, segment: int) -> None:
    """Say whether `data` starts with the header of this segment.

    Raises:
        DamagedHeader: it is cut off or changed; the frames behind it may be whole.
        BadSegment: it is whole, but of another version or segment.
    """
    if len(data) < HEADER_BYTES or data[: len(MAGIC)] != MAGIC:
        raise DamagedHeader(f"segment {worker}/{segment} does not start with {MAGIC!r}")
    data = data[:HEADER_BYTES]
    version = int.from_bytes(data[8:10], "little")
    if version not in READABLE_VERSIONS:
        raise BadSegment(
            f"segment {worker}/{segment} has version {version}; "
            f"this program reads {' and '.join(map(str, READABLE_VERSIONS))}"
        )
    checked, checksum = data[: -_CHECKSUM.size], data[-_CHECKSUM.size :]
    if _CHECKSUM.pack(crc32(checked)) != checksum:
        raise DamagedHeader(f"the header of segment {worker}/{segment} is damaged")
    if data != encode_header(worker, segment, version):
        raise BadSegment(f"the header of segment {worker}/{segment} is not its own")


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
    if len(body) < length or crc32(body) != checksum:
        return Stop.TORN
    try:
        whole = _whole_decoder.decode(body)
    except msgspec.DecodeError:
        return Stop.TORN
    end = aligned(offset + FRAME.size + length)
    return Frame(offset, end, body, whole.sequence, whole.record_type)


def frame_bytes_at(data: bytes | memoryview, at: int) -> int:
    """How many bytes the frame at `data[at:]` says it has, head included; 0 if it says nothing."""
    if at + FRAME.size > len(data):
        return 0
    length: int = FRAME.unpack_from(data, at)[1]
    return 0 if length in (0, SEAL) else FRAME.size + length


def heads_in(data: bytes) -> int:
    """How many frames `data` holds by what their heads say of their lengths, whole or not.

    0 where that does not lead to the end of what is written: then a length is damaged.
    """
    at = count = 0
    while size := frame_bytes_at(data, at):
        count += 1
        at = aligned(at + size)
    after = data[at:].removeprefix(FRAME.pack(0, SEAL))
    return count if at <= len(data) and not after.strip(b"\0") else 0


def encode_tally(encoded: bytes, sequence: int, body: bytearray) -> None:
    """Make `body` the body of a tally's frame; `encoded` is the tally as JSON."""
    _encode_into((sequence, int(RecordType.TALLY), encoded), body)


def tally_of(body: bytes) -> bytes:
    """The JSON of a tally, out of the body of its frame.

    Raises:
        BadRecord: the body is something else.
    """
    try:
        return _tally_decoder.decode(body).encoded
    except msgspec.DecodeError as exc:
        raise BadRecord(f"tally of {len(body)} bytes: {exc}") from exc


def decode_exchange(body: bytes) -> SpooledExchange:
    """The record in the body of an exchange's frame.

    Raises:
        BadRecord: a field is missing, too many, or not what it must be.
    """
    try:
        return _exchange_decoder.decode(body)
    except msgspec.DecodeError as exc:
        raise BadRecord(f"exchange of {len(body)} bytes: {exc}") from exc
