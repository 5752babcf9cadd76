"""Whatever lies in a spool: the reader comes to its end, twice the same, and invents nothing."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from zlib import crc32

from gateway.spool import segments
from gateway.spool.encoding import encode_exchange
from gateway.spool.format import (
    FRAME,
    HEADER_BYTES,
    SEAL,
    BadRecord,
    BadSegment,
    RecordType,
    aligned,
    decode_exchange,
    encode_header,
    encode_tally,
    tally_of,
)
from gateway.spool.reader import Position, SpooledRecord, WorkerReader
from tests.exchanges import recorded

WORKER = "0-feedbeef"
RECORDS = 4
"""In each of the two whole segments that are damaged."""
SEGMENTS = 2
MAX_READS = 1_000
CHANGE_BYTES = 5
"""Of one damage: segment, three bytes of offset, the new byte."""
RAW = 0xFF
"""As the first byte of an input: what follows is a segment's content, not a list of damages."""


def _body(sequence: int) -> bytes:
    body = bytearray()
    if sequence % RECORDS == 0:
        encode_tally(b'{"second":1}', sequence, body)
    else:
        encode_exchange(recorded(), sequence, body)
    return bytes(body)


def _frame(body: bytes) -> bytes:
    data = FRAME.pack(crc32(body), len(body)) + body
    return data + bytes(aligned(len(data)) - len(data))


BODIES = [_body(sequence) for sequence in range(1, SEGMENTS * RECORDS + 1)]
WHOLE = [
    encode_header(WORKER, number + 1)
    + b"".join(map(_frame, BODIES[number * RECORDS : (number + 1) * RECORDS]))
    + FRAME.pack(0, SEAL)
    for number in range(SEGMENTS)
]


def damaged(data: bytes) -> list[bytes]:
    """The segments that an input stands for."""
    if data[:1] == bytes((RAW,)):
        return [encode_header(WORKER, 1) + data[1:], WHOLE[1]]
    found = [bytearray(each) for each in WHOLE]
    for at in range(0, len(data) - CHANGE_BYTES + 1, CHANGE_BYTES):
        segment = found[data[at] % SEGMENTS]
        offset = int.from_bytes(data[at + 1 : at + 4], "little")
        if data[at] & 0x80:
            del segment[offset % (len(segment) + 1) :]  # as a crash cuts a file off
        elif segment:
            segment[offset % len(segment)] = data[at + 4]
    return [bytes(each) for each in found]


def check_spool(data: bytes) -> None:
    contents = damaged(data)
    directory = Path(tempfile.mkdtemp(prefix="fuzz-spool-", dir=_memory()))
    try:
        (directory / WORKER).mkdir()
        for number, content in enumerate(contents, start=1):
            segments.segment_path(directory / WORKER, number).write_bytes(content)
        _check(directory, is_ours=contents == WHOLE, may_forge=data[:1] == bytes((RAW,)))
    finally:
        shutil.rmtree(directory)


def _check(directory: Path, *, is_ours: bool, may_forge: bool) -> None:
    try:
        waiting = read_all(directory, final=False)
        found = read_all(directory, final=True)
    except BadSegment:
        assert not is_ours
        return
    assert found[: len(waiting)] == waiting, "read another way once nobody writes any more"
    sequences = [record.frame.sequence for record in found]
    for record in found:
        _decoded(record)
    if not may_forge:
        assert sequences == sorted(set(sequences)), "a record twice, or out of order"
        assert all(record.missing >= 0 for record in found)
        assert all(r.frame.body == BODIES[r.frame.sequence - 1] for r in found), "invented"
    if is_ours:
        assert len(found) == len(BODIES)
    if found:
        reader = WorkerReader(directory, WORKER)
        again = reader.read_range(Position(), found[-1].end)
        reader.close()
        assert [r.frame for r in again] == [r.frame for r in found], "another batch the second time"


def read_all(directory: Path, *, final: bool) -> list[SpooledRecord]:
    """Everything that can be read; AssertionError if that has no end."""
    reader = WorkerReader(directory, WORKER)
    found: list[SpooledRecord] = []
    try:
        for _ in range(MAX_READS):
            before = reader.position
            found += reader.read(3, final=final)
            assert not reader.position.is_before(before), "went backwards"
            if reader.position == before:
                return found
        raise AssertionError("no end")
    finally:
        reader.close()


def _decoded(record: SpooledRecord) -> None:
    assert record.frame.offset >= HEADER_BYTES
    with suppress(BadRecord):
        if record.frame.kind == RecordType.TALLY:
            tally_of(record.frame.body)
        elif record.frame.kind == RecordType.EXCHANGE:
            decode_exchange(record.frame.body)


def _memory() -> str | None:
    """A directory in memory where there is one: a thousand files a second are made and removed."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
