"""A frame is found whole or not at all, whatever happened to its bytes."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.record import ExchangeRecord
from gateway.spool.encoding import encode_exchange
from gateway.spool.format import (
    FRAME,
    HEADER_BYTES,
    MAX_SEGMENT_BYTES,
    MIN_SEGMENT_BYTES,
    SEAL,
    BadRecord,
    BadSegment,
    DamagedHeader,
    Frame,
    RecordType,
    SpooledExchange,
    Stop,
    aligned,
    check_header,
    decode_exchange,
    encode_header,
    encode_tally,
    frame_at,
    heads_in,
    tally_of,
)

FIXTURE_IS_A_FUNCTION = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def body_of(record: ExchangeRecord, sequence: int) -> bytes:
    body = bytearray(b"left from the record before")
    encode_exchange(record, sequence, body)
    return bytes(body)


def framed(body: bytes) -> bytes:
    return FRAME.pack(crc32(body), len(body)) + body


exchanges = st.fixed_dictionaries(
    {
        "stamp": st.binary(max_size=80),
        "request_id": st.binary(max_size=40),
        "method": st.binary(max_size=10),
        "target": st.binary(max_size=70_000),
        "request_content_type": st.binary(max_size=40),
        "request_content_encoding": st.binary(max_size=40),
        "response_content_type": st.binary(max_size=40),
        "response_content_encoding": st.binary(max_size=40),
        "request_body": st.binary(max_size=300),
        "response_body": st.binary(max_size=300),
        "request_body_cut": st.booleans(),
        "response_body_cut": st.booleans(),
        "started_at_us": st.integers(0, 2**63),
        "ended_at_us": st.integers(0, 2**63),
        "latency_us": st.integers(0, 2**63),
        "first_byte_us": st.integers(0, 2**63),
        "status": st.integers(0, 999),
        "outcome": st.integers(0, 6),
        "first_attempt_outcome": st.integers(0, 6),
        "kind": st.integers(0, 2),
        "attempts": st.integers(0, 255),
        "bucket": st.integers(0, 9_999),
        "events": st.integers(0, 2**32 - 1),
        "max_event_gap_us": st.integers(0, 2**63),
        "request_bytes": st.integers(0, 2**63),
        "response_bytes": st.integers(0, 2**63),
        "withheld": st.integers(0, 2),
        "first_event_us": st.integers(0, 2**63),
        "traceparent": st.binary(max_size=55),
    }
)


@FIXTURE_IS_A_FUNCTION
@given(values=exchanges, sequence=st.integers(1, 2**63))
def test_an_exchange_comes_back_as_it_was(
    values: dict[str, object],
    sequence: int,
    exchange: Callable[..., ExchangeRecord],
    fields: Callable[[ExchangeRecord | SpooledExchange], dict[str, object]],
) -> None:
    record = exchange(**values)
    frame = frame_at(framed(body_of(record, sequence)), 0, 64)
    assert isinstance(frame, Frame)
    assert (frame.sequence, frame.kind) == (sequence, RecordType.EXCHANGE)
    assert frame.end % 8 == 0
    assert fields(decode_exchange(frame.body)) == fields(record)


def test_a_tally_comes_back_as_it_was() -> None:
    body = bytearray()
    encode_tally(b'{"worker": "0-a"}', 9, body)
    frame = frame_at(framed(bytes(body)), 0, 64)
    assert isinstance(frame, Frame)
    assert (frame.sequence, frame.kind) == (9, RecordType.TALLY)
    assert tally_of(frame.body) == b'{"worker": "0-a"}'


def test_a_frame_cut_at_any_byte_is_no_frame(exchange: Callable[..., ExchangeRecord]) -> None:
    """As after a crash: what is missing at the end of the file, or still zero in it."""
    whole = framed(body_of(exchange(), 1))
    for cut in range(len(whole)):
        assert not isinstance(frame_at(whole[:cut], 0, 64), Frame)
        zeroed = whole[:cut].ljust(len(whole), b"\0")
        assert zeroed == whole or not isinstance(frame_at(zeroed, 0, 64), Frame)


def test_a_frame_without_its_length_is_not_there_yet(
    exchange: Callable[..., ExchangeRecord],
) -> None:
    """The writer stores the length last: until then a reader sees nothing, not even torn."""
    whole = bytearray(framed(body_of(exchange(), 1)))
    whole[4:8] = bytes(4)
    assert frame_at(bytes(whole), 0, 64) is Stop.EMPTY


def test_any_flipped_bit_is_noticed(exchange: Callable[..., ExchangeRecord]) -> None:
    """Also one in the length, with the zeros that follow the last frame of a segment."""
    whole = bytearray(framed(body_of(exchange(), 1))) + bytes(256)
    frame = frame_at(bytes(whole), 0, 64)
    assert isinstance(frame, Frame)
    for bit in range((FRAME.size + len(frame.body)) * 8):
        whole[bit // 8] ^= 1 << bit % 8
        assert not isinstance(frame_at(bytes(whole), 0, 64), Frame), f"bit {bit}"
        whole[bit // 8] ^= 1 << bit % 8


@FIXTURE_IS_A_FUNCTION
@given(data=st.data())
def test_a_lost_sector_is_noticed(
    data: st.DataObject, exchange: Callable[..., ExchangeRecord]
) -> None:
    """After a power cut any of a file's sectors may still be zeros; the others may be written."""
    body = st.binary(min_size=2_000, max_size=2_000).filter(any)
    whole = framed(body_of(exchange(request_body=data.draw(body)), 1))
    sector = data.draw(st.integers(0, (len(whole) - 1) // 512)) * 512
    lost = whole[:sector] + bytes(512) + whole[sector + 512 :]
    assert lost[: len(whole)] == whole or not isinstance(frame_at(lost, 0, 64), Frame)


@pytest.mark.parametrize(
    "body", [b"", b"not an array", b"\x91\x01", b"\x92\x00\x01", b"\x92\x01\xff"]
)
def test_a_body_that_no_record_starts_like_is_no_frame(body: bytes) -> None:
    """Its checksum is right, so no writer of this version wrote it."""
    assert not isinstance(frame_at(framed(body), 0, 64), Frame)


def test_a_type_of_a_later_version_is_still_a_frame() -> None:
    frame = frame_at(framed(b"\x93\x07\x63\xc3"), 0, 64)  # [7, 99, true]
    assert isinstance(frame, Frame)
    assert (frame.sequence, frame.kind) == (7, 99)


def test_a_seal_is_told_from_a_frame() -> None:
    assert frame_at(FRAME.pack(0, SEAL), 0, 64) is Stop.SEALED


def test_a_body_cut_or_with_more_than_a_record_is_refused(
    exchange: Callable[..., ExchangeRecord],
) -> None:
    body = body_of(exchange(), 1)
    more = b"\xdc\x00\x20" + body[3:] + b"\x01"
    for wrong in (body + b"x", body[:-1], b"", more):
        with pytest.raises(BadRecord, match=f"exchange of {len(wrong)} bytes"):
            decode_exchange(wrong)
        with pytest.raises(BadRecord, match=f"tally of {len(wrong)} bytes"):
            tally_of(wrong)


@pytest.mark.parametrize(
    "wrong", [{"latency_us": -1}, {"status": "200"}, {"request_body": None}, {"bucket": 0.5}]
)
def test_a_field_that_is_not_what_it_must_be_is_refused_by_place(
    wrong: dict[str, object], exchange: Callable[..., ExchangeRecord]
) -> None:
    """A bug of the writer's; the recorder makes a dead letter of it."""
    with pytest.raises(BadRecord, match=r"Expected .* at `\$\[\d+\]`"):
        decode_exchange(body_of(exchange(**wrong), 1))


def test_a_header_is_its_own_segments_only() -> None:
    header = encode_header("0-abcdef", 7)
    assert len(header) == HEADER_BYTES
    check_header(header, "0-abcdef", 7)
    for worker, segment in (("0-abcdef", 8), ("1-abcdef", 7)):
        with pytest.raises(BadSegment, match="not its own") as refused:
            check_header(header, worker, segment)
        assert not isinstance(refused.value, DamagedHeader), "it is whole, and another's"


@pytest.mark.parametrize("wrong", [b"\0", b"\xff"])
def test_what_is_no_segment_or_half_a_header_is_said_to_be_so(wrong: bytes) -> None:
    header = encode_header("0-a", 1)
    for data in (wrong + header[1:], header[:-1], b""):
        with pytest.raises(BadSegment, match="does not start with"):
            check_header(data, "0-a", 1)


def test_a_segment_of_a_later_version_is_refused_by_name() -> None:
    header = bytearray(encode_header("0-a", 1))
    header[8] = 4
    with pytest.raises(BadSegment, match="version 4; this program reads 2 and 3"):
        check_header(bytes(header), "0-a", 1)


def test_a_segment_of_the_version_before_is_read(
    exchange: Callable[..., ExchangeRecord],
    fields: Callable[[ExchangeRecord | SpooledExchange], dict[str, object]],
) -> None:
    """Its exchanges end before `withheld`; it may lie in the spool at an upgrade."""
    check_header(encode_header("0-a", 1, 2), "0-a", 1)
    record = exchange(withheld=0, first_event_us=0, traceparent=b"")
    *known, _, _, _ = msgspec.msgpack.decode(body_of(record, 7))
    assert len(known) == 28
    assert fields(decode_exchange(msgspec.msgpack.encode(known))) == fields(record)


@pytest.mark.parametrize("end", [b"", bytes(64), FRAME.pack(0, SEAL) + bytes(64)])
def test_heads_tell_how_many_frames_there_were(end: bytes) -> None:
    frames = b"".join(FRAME.pack(1, size).ljust(aligned(8 + size), b"x") for size in (3, 8, 21))
    assert heads_in(frames + end) == 3
    assert heads_in(end) == 0


def test_heads_that_lead_nowhere_tell_nothing() -> None:
    frames = bytearray(FRAME.pack(1, 30) + b"x" * 32) * 2
    for wrong in (2, 60, 2**31):
        frames[4:8] = wrong.to_bytes(4, "little")
        assert heads_in(bytes(frames) + bytes(64)) == 0


def test_what_lies_on_disk_outlives_the_program_so_it_is_the_same_to_the_byte() -> None:
    assert encode_header("0-feedbeef", 7)[:24] == bytes.fromhex(
        "475753504f4f4c0a0300400007000000302d666565646265"
    )
    assert frame_at(bytes.fromhex("00000000ffffffff"), 0, HEADER_BYTES) is Stop.SEALED
    body = bytearray()
    encode_tally(b"{}", 1, body)
    assert bytes(body) == bytes.fromhex("930102c4027b7d")


@pytest.mark.parametrize("byte", [0, 0xFF])
@pytest.mark.parametrize("at", [8 + 8, HEADER_BYTES - 1])
def test_a_header_that_differs_in_any_way_is_damaged(at: int, byte: int) -> None:
    header = bytearray(encode_header("0-feedbeef", 7))
    header[at] = byte
    with pytest.raises(DamagedHeader, match="segment 0-feedbeef/7 is damaged"):
        check_header(bytes(header), "0-feedbeef", 7)


def test_a_tally_with_more_than_its_fields_is_refused() -> None:
    with pytest.raises(BadRecord, match="tally of"):
        tally_of(msgspec.msgpack.encode([1, int(RecordType.TALLY), b"{}", 3]))


def test_the_smallest_segment_takes_a_record_with_two_whole_bodies(
    exchange: Callable[..., ExchangeRecord],
) -> None:
    body = bytes(64 * 1024)
    frame = framed(body_of(exchange(request_body=body, response_body=body), 1))
    assert HEADER_BYTES + len(frame) + FRAME.size < MIN_SEGMENT_BYTES < MAX_SEGMENT_BYTES
    assert MAX_SEGMENT_BYTES % 4096 == 0
    assert 3 * MAX_SEGMENT_BYTES <= 6 * 1024**2, "a worker holds three in memory"
