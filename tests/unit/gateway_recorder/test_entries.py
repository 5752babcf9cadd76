"""What becomes of one spooled record."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.features.rules import AS_THEY_COME
from gateway.recorder.entries import Entry, entry_of
from gateway.spool.encoding import encode_exchange
from gateway.spool.format import Frame, RecordType
from gateway.spool.reader import Position, SpooledRecord
from tests.exchanges import recorded, stamp


def entry_with(**changes: Any) -> Entry:
    body = bytearray()
    encode_exchange(recorded(**changes), 1, body)
    frame = Frame(64, 64 + len(body), bytes(body), 1, RecordType.EXCHANGE)
    return entry_of("w", Position(), SpooledRecord(frame, 1, 0, Position()), AS_THEY_COME)


@pytest.mark.parametrize("numbers", ["3.5e38", "1, -1e300", "0.5, 3.4e38, 0.5"])
def test_a_number_too_large_for_its_column_makes_a_dead_letter(numbers: str) -> None:
    entry = entry_with(response_body=b'{"embedding": [%b]}' % numbers.encode())
    assert entry.row is None
    assert entry.letter is not None
    assert "not finite in 32 bits" in entry.letter.reason


def test_a_vector_may_be_longer_than_any_of_its_numbers_may_be_large() -> None:
    row = entry_with(response_body=b'{"embedding": [3e38, -3e38, 3e38, 0.5]}').row
    assert row is not None
    assert row.embedding == [3e38, -3e38, 3e38, 0.5]


@pytest.mark.parametrize(
    ("attempts", "stamped", "expected"),
    [
        (1, {"endpoint": "http://a:1"}, ("http://a:1", "http://a:1")),
        (1, {}, ("", "")),
        (2, {"endpoint": "http://b:1", "first_attempt_endpoint": "http://a:1"},
         ("http://b:1", "http://a:1")),
        (2, {"endpoint": "http://b:1"}, ("http://b:1", "")),
        (2, {}, ("", "")),
    ],
    ids=["one", "none asked", "two", "the first asked none", "of a gateway that names none"],
)  # fmt: skip
def test_a_row_names_the_endpoint_of_its_last_attempt_and_of_its_first(
    attempts: int, stamped: dict[str, str], expected: tuple[str, str]
) -> None:
    row = entry_with(attempts=attempts, stamp=stamp(**stamped)).row
    assert row is not None
    assert (row.endpoint, row.first_attempt_endpoint) == expected


def test_a_stamp_of_a_later_gateway_is_read_without_what_is_new_in_it() -> None:
    """As a recorder from before the endpoints reads those: the segment's version stays."""
    values = {**msgspec.json.decode(stamp()), "something_new": ["not", "known"]}
    row = entry_with(stamp=msgspec.json.encode(values)).row
    assert row is not None
    assert row.route == "rag"


def test_a_dead_letter_tells_whose_it_is_however_long_the_query() -> None:
    """Else nobody could erase it: what is left of the row ends before the user."""
    asked = {"query_text": "why " * 5_000, "user_id": "u-7391", "session_id": "s-1"}
    letter = entry_with(
        request_body=json.dumps(asked).encode(), response_body=b'{"relevance_score": 7}'
    ).letter
    assert letter is not None
    assert letter.payload_excerpt.startswith('{"user_id":"u-7391","session_id":"s-1"')
    assert "why why" in letter.payload_excerpt
