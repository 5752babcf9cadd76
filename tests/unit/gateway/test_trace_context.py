"""Which headers name a trace, and how a request becomes a span of it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.trace_context import join, parse, parse_recorded

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = b"00f067aa0ba902b7"
VALID = b"00-%b-%b-01" % (TRACE, SPAN)


def test_a_header_names_trace_and_sender():
    parent = parse(VALID)
    assert parent is not None
    assert (parent.trace_id, parent.span_id, parent.is_sampled) == (TRACE, SPAN, True)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"00",
        VALID.upper(),
        VALID + b"-more",
        VALID[:-1],
        b"ff" + VALID[2:],
        b"00-%b-%b-01" % (b"0" * 32, SPAN),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        VALID + b", " + VALID,
        b" " + VALID,
    ],
)
def test_what_is_not_valid_counts_as_none(header):
    assert parse(header) is None


def test_a_later_version_may_say_more():
    parent = parse(b"01" + VALID[2:] + b"-more")
    assert parent is not None
    assert parent.trace_id == TRACE


@given(flags=st.sampled_from([b"00", b"01", b"03", b"02"]), seed=st.integers(), new=st.booleans())
def test_we_join_the_senders_trace_and_keep_its_sampling(flags, seed, new):
    header = b"00-%b-%b-%b" % (TRACE, SPAN, flags)
    joined = join(header, Random(seed).getrandbits, samples_new=new)
    ours, theirs = parse(joined.header), parse(header)
    assert ours is not None
    assert theirs is not None
    assert ours.trace_id == TRACE
    assert ours.span_id != SPAN
    assert ours.is_sampled == theirs.is_sampled
    assert parse_recorded(joined.recorded) == (ours, SPAN)


@pytest.mark.parametrize("new", [True, False])
def test_without_a_valid_header_a_trace_begins(new):
    joined = join(b"nonsense", Random(1).getrandbits, samples_new=new)
    ours = parse(joined.header)
    assert ours is not None
    assert ours.is_sampled is new
    assert parse_recorded(joined.recorded) == (ours, b"")


def test_no_identity_is_ever_all_zeros():
    assert parse(join(b"", lambda _: 0, samples_new=False).header) is not None


def test_a_header_that_was_only_passed_on_is_no_span_of_ours():
    assert parse_recorded(VALID) is None
    assert parse_recorded(b"") is None
