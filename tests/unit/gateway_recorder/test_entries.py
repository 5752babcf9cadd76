"""What becomes of one spooled record."""

from __future__ import annotations

import pytest

from gateway.features.rules import AS_THEY_COME
from gateway.recorder.entries import Entry, entry_of
from gateway.spool.encoding import encode_exchange
from gateway.spool.format import Frame, RecordType
from gateway.spool.reader import Position, SpooledRecord
from tests.exchanges import recorded


def entry_with(response_body: bytes) -> Entry:
    body = bytearray()
    encode_exchange(recorded(response_body=response_body), 1, body)
    frame = Frame(64, 64 + len(body), bytes(body), 1, RecordType.EXCHANGE)
    return entry_of("w", Position(), SpooledRecord(frame, 1, 0, Position()), AS_THEY_COME)


@pytest.mark.parametrize("numbers", ["3.5e38", "1, -1e300", "0.5, 3.4e38, 0.5"])
def test_a_number_too_large_for_its_column_makes_a_dead_letter(numbers: str) -> None:
    entry = entry_with(b'{"embedding": [%b]}' % numbers.encode())
    assert entry.row is None
    assert entry.letter is not None
    assert "not finite in 32 bits" in entry.letter.reason


def test_a_vector_may_be_longer_than_any_of_its_numbers_may_be_large() -> None:
    row = entry_with(b'{"embedding": [3e38, -3e38, 3e38, 0.5]}').row
    assert row is not None
    assert row.embedding == [3e38, -3e38, 3e38, 0.5]
