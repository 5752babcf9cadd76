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


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        ('"embedding": [3.5e38]', "unusable embedding"),
        ('"embedding": [1, -1e300]', "unusable embedding"),
        ('"embedding": [0.5, 3.4e38, 0.5]', "unusable embedding"),
        ('"relevance_score": 7', "unusable relevance_score"),
        ('"relevance_score": -0.25', "unusable relevance_score"),
        ('"response_time_ms": -1', "unusable response_time_ms"),
        (
            '"response_time_ms": 1e9, "relevance_score": 1.5',
            "unusable relevance_score, unusable response_time_ms",
        ),
        (
            '"prompt_tokens": 1, "user_id": {}, "relevance_score": 1.5',
            "unusable user_id, unusable relevance_score",
        ),
    ],
)
def test_a_feature_that_fits_no_column_is_dropped_and_named_and_the_row_stays(
    answer: str, missing: str
) -> None:
    """A model whose scores are cosines or logits loses its scores, not its log."""
    asked = b'{"query_text": "why"}'
    row = entry_with(request_body=asked, response_body=b"{%b}" % answer.encode()).row
    assert row is not None
    assert (row.query_text, row.features_missing) == ("why", missing)
    assert (row.embedding, row.relevance_score, row.response_time_ms) == ([], None, 20.0)


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
    letter = entry_with(request_body=json.dumps(asked).encode(), bucket=10_000).letter
    assert letter is not None
    assert letter.payload_excerpt.startswith('{"user_id":"u-7391","session_id":"s-1"')
    assert "why why" in letter.payload_excerpt
