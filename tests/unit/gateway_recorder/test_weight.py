"""What a row in hand weighs: batches are bounded by it."""

from __future__ import annotations

from typing import Any

from gateway.features.rules import AS_THEY_COME
from gateway.recorder.entries import entry_of
from gateway.recorder.rows import NUMBER_BYTES, ROW_BYTES
from gateway.spool.encoding import encode_exchange
from gateway.spool.format import Frame, RecordType
from gateway.spool.reader import Position, SpooledRecord
from tests.exchanges import recorded


def weight_of(**changes: Any) -> int:
    body = bytearray()
    encode_exchange(recorded(**changes), 1, body)
    frame = Frame(64, 64 + len(body), bytes(body), 1, RecordType.EXCHANGE)
    entry = entry_of("w", Position(), SpooledRecord(frame, 1, 0, Position()), AS_THEY_COME)
    assert entry.row is not None
    return entry.weight_bytes


def test_bodies_are_let_go_once_they_are_read() -> None:
    few = weight_of(response_body=b'{"relevance_score": 0.5, "other": ""}')
    many = weight_of(response_body=b'{"relevance_score": 0.5, "other": "%b"}' % (b"x" * 60_000))
    assert few == many
    assert ROW_BYTES <= few < 2 * ROW_BYTES


def test_texts_and_numbers_are_kept() -> None:
    asked = weight_of(request_body=b'{"query_text": "%b"}' % (b"x" * 10_003))
    assert asked - weight_of() == 10_000
    embedded = weight_of(response_body=b'{"embedding": [%b1.5]}' % (b"0.5, " * 383))
    assert embedded - weight_of() == 384 * NUMBER_BYTES
    found = weight_of(response_body=b'{"documents": ["%b"]}' % (b"d" * 5_000))
    assert found - weight_of() == 5_000
