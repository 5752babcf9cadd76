"""The table of states, and that whatever happens gives exactly one record."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import outcome
from gateway.event_stream import EventStream
from gateway.exchange import (
    ENDED,
    ENDINGS,
    EVENTS,
    FORBIDDEN,
    LIVE,
    NEXT,
    TRANSITIONS,
    Event,
    Exchange,
    NotAllowed,
    State,
)

NOBODY: Any = object()
"""The client's side; the table does not use it."""


def exchange(started_ns=1_000_000):
    exchange = Exchange(NOBODY, b"/", started_ns)
    exchange.headers, exchange.kept = {}, []
    return exchange


def test_every_live_state_accepts_every_ending():
    assert all(TRANSITIONS[state, ending] is State.ENDED for state in LIVE for ending in ENDINGS)


def test_nothing_follows_the_end():
    assert not [key for key in TRANSITIONS if key[0] is State.ENDED]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_the_request_path_reads_the_same_table(state, event):
    expected = TRANSITIONS.get((state, event))
    assert NEXT[state * EVENTS + event] == (FORBIDDEN if expected is None else expected)
    one = exchange()
    one.state = int(state)
    if expected is None:
        with pytest.raises(NotAllowed, match=f"{event.name} cannot happen in {state.name}"):
            one.on(event)
        assert one.state == state
    else:
        one.on(event)
        assert one.state == expected


@given(st.lists(st.sampled_from(list(Event)), max_size=40))
def test_any_sequence_of_events_ends_an_exchange_at_most_once(events):
    one, records = exchange(), []
    for event in [*events, Event.CLIENT_LOST]:
        allowed = (State(one.state), event) in TRANSITIONS
        ends = allowed and TRANSITIONS[State(one.state), event] is State.ENDED
        try:
            if ends:
                one.end(event, outcome.OK, 200, 2_000_000, 10)
                records.append(one)
            else:
                one.on(event)
        except NotAllowed:
            assert not allowed
        else:
            assert allowed
    assert len(records) == 1
    assert one.state == ENDED


def test_times_are_durations_from_the_first_byte_of_the_head():
    one = exchange(started_ns=5_000_000)
    one.first_ns = 7_000_000
    one.end(Event.CLIENT_LOST, outcome.CANCELLED, 499, 9_500_000, 1_000_000_000)
    assert (one.latency_us, one.first_byte_us) == (4500, 2000)
    assert (one.started_at_us, one.ended_at_us) == (999_995_500, 1_000_000_000)
    assert one.first_attempt_outcome == outcome.CANCELLED


def test_a_first_failure_stays_charged_when_a_later_attempt_succeeds():
    one = exchange()
    one.first_attempt_outcome = outcome.TIMEOUT
    one.end(Event.ANSWERED_HERE, outcome.OK, 200, 2_000_000, 10)
    assert (one.outcome, one.first_attempt_outcome) == (outcome.OK, outcome.TIMEOUT)


def test_bodies_are_cut_at_the_limit_and_say_so():
    one = exchange()
    one.kept, one.kept_bytes, one.request_bytes = [b"abc", b"def"], 6, 6
    one.response_kept, one.response_bytes = [b"ghi"], 3
    one.set_bodies(4)
    assert (one.request_body, one.request_body_cut) == (b"abcd", True)
    assert (one.response_body, one.response_body_cut) == (b"ghi", False)


def test_a_whole_body_is_not_cut_and_nothing_is_withheld():
    one = exchange()
    one.kept, one.kept_bytes, one.request_bytes = [b"a" * 600, b"b" * 400], 1_000, 500 * 2
    one.withheld = 1
    one.set_bodies(1_000)
    assert (len(one.request_body), one.request_body_cut, one.withheld) == (1_000, False, 0)


def test_an_answer_that_never_began_has_no_first_byte():
    one = exchange(started_ns=5_000_000)
    one.end(Event.CLIENT_LOST, outcome.CANCELLED, 499, 9_500_000, 1_000_000_000)
    assert (one.first_byte_us, one.first_event_us) == (0, 0)


def test_the_record_says_what_the_stream_was_like():
    one = exchange()
    one.stream = EventStream()
    one.on(Event.ASSIGNED)
    one.on(Event.SENT)
    one.on(Event.HEAD)
    began_ns = one.started_ns
    for number, body in enumerate([b"data: a\n\n", b": alive\n\n", b"data: b\n\n"], start=1):
        one.note_answer(body, 1_000, began_ns + number * 1_000_000)
    one.end(Event.DONE, 0, 200, began_ns + 4_000_000, 1_000_000)
    assert (one.events, one.first_event_us, one.max_event_gap_us) == (2, 1_000, 2_000)


def test_a_new_exchange_has_received_and_begun_nothing():
    one = exchange()
    assert (one.kept_bytes, one.response_kept_bytes) == (0, 0)
    assert (one.request_bytes, one.response_bytes, one.attempts) == (0, 0, 1)
    assert not any((one.complete, one.retried_stale, one.is_timed))
    assert (one.first_ns, one.own_ns, one.state) == (0, 0, 0)
    assert one.is_replayable


def test_a_body_that_is_not_all_kept_cannot_be_sent_again():
    one = exchange()
    one.kept_bytes, one.request_bytes = 5, 5
    assert one.is_replayable
    one.request_bytes = 6
    assert not one.is_replayable


@given(st.lists(st.binary(max_size=4), max_size=8), st.integers(0, 12))
def test_of_an_answer_the_beginning_is_kept_however_it_comes(slices, limit_bytes):
    one = exchange()
    for each in slices:
        one.note_answer(each, limit_bytes, 0)
    whole = b"".join(slices)
    assert b"".join(one.response_kept) == whole[:limit_bytes]
    assert one.response_kept_bytes == min(len(whole), limit_bytes)
    assert one.response_bytes == len(whole)
    one.set_bodies(limit_bytes)
    assert one.response_body == whole[:limit_bytes]
    assert one.response_body_cut == (len(whole) > limit_bytes)


def test_what_is_withheld_is_not_in_the_record():
    one = exchange()
    one.headers = {b"content-type": b"text/plain", b"content-encoding": b"gzip"}
    one.kept, one.kept_bytes, one.request_bytes = [b"abc", b"def"], 6, 6
    one.set_bodies(4)
    assert (one.request_body, one.request_body_cut) == (b"abcd", True)
    assert (one.request_content_type, one.request_content_encoding) == (b"text/plain", b"gzip")
    one.withhold(2)
    assert (one.withheld, one.request_body, one.response_body) == (2, b"", b"")
    assert not any((one.request_body_cut, one.response_body_cut))
    assert (one.request_content_type, one.request_content_encoding) == (b"", b"")
