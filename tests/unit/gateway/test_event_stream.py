"""Events are counted as a browser would dispatch them, whatever the slices they come in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.event_stream import EventStream, is_event_stream

MS = 1_000_000


def fed(*slices: bytes) -> EventStream:
    """A stream whose slices came at 1 ms, 2 ms and so on."""
    stream = EventStream()
    for number, data in enumerate(slices, start=1):
        stream.feed(data, number * MS)
    return stream


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b"data: a\n\n", 1),
        (b"data: a\n\ndata: b\n\n", 2),
        (b"data: a\ndata: b\n\n", 1),
        (b"event: token\nid: 7\ndata: a\n\n", 1),
        (b"data\n\n", 1),
        (b"data:\n\n", 1),
        (b": keep-alive\n\n", 0),
        (b":\n\n:\n\ndata: a\n\n", 1),
        (b": note\ndata: a\n\n", 1),
        (b"event: ping\n\n", 0),
        (b"retry: 1000\n\n", 0),
        (b"database: no\n\n", 0),
        (b"\n\n\n\ndata: a\n\n\n\n", 1),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", 2),
        (b"data: a\r\rdata: b\r\r", 2),
        (b"data: a\rdata: b\r\n\r\n", 1),
        (b"\xef\xbb\xbfdata: a\n\n", 1),
        (b"data: a\n\ndata: not whole\n", 1),
        (b"data: [DONE]\n\n", 1),
    ],
)
def test_an_event_ends_with_a_blank_line_and_has_data(text: bytes, events: int) -> None:
    assert fed(text).events == events
    one_by_one = fed(*(text[at : at + 1] for at in range(len(text))))
    assert one_by_one.events == events


@given(
    lines=st.lists(
        st.sampled_from([b"data: a", b"data", b"", b": c", b"event: e", b"id", b"dat", b"data: \r"])
    ),
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    cuts=st.lists(st.integers(0, 120)),
)
def test_slices_change_nothing(lines: list[bytes], end: bytes, cuts: list[int]) -> None:
    text = end.join(lines) + end
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    slices = [text[a:b] for a, b in pairwise(places)]
    assert fed(*slices).events == fed(text).events


def test_gaps_are_between_events_and_not_between_slices() -> None:
    stream = fed(b"data: a\n", b"\n", b"da", b"ta: b\n", b": no event\n\n", b"\n", b"data: c\n\n")
    assert stream.events == 3
    assert stream.first_ns == 2 * MS
    assert stream.max_gap_ns == 3 * MS  # from the second slice to the fifth, which ends `b`
    assert stream.last_ns == 7 * MS


def test_a_comment_does_not_shorten_a_gap() -> None:
    stream = fed(b"data: a\n\n", b": alive\n\n", b": alive\n\n", b"data: b\n\n")
    assert stream.max_gap_ns == 3 * MS


def test_one_event_has_no_gap() -> None:
    stream = fed(b": alive\n\n", b"data: a\n\n", b": alive\n\n")
    assert (stream.events, stream.first_ns, stream.max_gap_ns) == (1, 2 * MS, 0)


def test_of_a_line_without_an_end_only_its_beginning_is_kept() -> None:
    stream = EventStream()
    for _ in range(100):
        stream.feed(b"data: " + b"x" * 65_536, MS)
    assert len(stream._line) <= 8


@pytest.mark.parametrize(
    ("content_type", "is_one"),
    [
        (b"text/event-stream", True),
        (b"Text/Event-Stream; charset=utf-8", True),
        (b"text/plain", False),
        (b"", False),
    ],
)
def test_the_media_type_says_what_a_stream_is(content_type: bytes, is_one: bool) -> None:
    assert is_event_stream(content_type) is is_one
