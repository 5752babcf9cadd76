"""A connection to an upstream: what is believed of an answer, and when it may be used again."""

from __future__ import annotations

import pytest

from tests.fuzz.harness import Rig

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LONG = b"HTTP/1.1 200 OK\r\nx-long: " + b"y" * 70_000 + b"\r\ncontent-length: 2\r\n\r\n"


def get(method: bytes = b"GET") -> bytes:
    return method + b" / HTTP/1.1\r\nHost: a\r\n\r\n"


def statuses(rig: Rig) -> list[bytes]:
    return [each[:3] for each in bytes(rig.transport.written).split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize("size", [1_000, 60_000, 100_000])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_a_head_is_too_long_however_it_is_cut(method: bytes, size: int) -> None:
    rig = Rig()
    rig.feed(get(method))
    upstream = rig.upstreams[0]
    for begin in range(0, len(LONG), size):
        if not upstream.closing:
            upstream.protocol.data_received(LONG[begin : begin + size])
    rig.settle()
    assert statuses(rig) == [b"502"]
    assert upstream.is_aborted


def test_a_long_body_behind_a_short_head_is_not_taken_for_a_long_head() -> None:
    rig = Rig()
    rig.feed(get())
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"
    rig.upstreams[0].protocol.data_received(head + b"x" * 100_000)
    assert statuses(rig) == [b"200"]


def test_a_connection_is_not_used_again_while_it_holds_a_body_that_was_not_taken() -> None:
    early = b"HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n"
    rig = Rig()
    rig.feed(get())
    upstream = rig.upstreams[0]
    upstream.protocol.data_received(early)  # so that the next one could be read by comparing
    rig.settle()
    assert len(rig.pool.idle) == 1
    rig.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    upstream.protocol.pause_writing()
    upstream.protocol.data_received(early)
    rig.settle()
    assert statuses(rig) == [b"429", b"429"]
    assert upstream.closing
    assert (rig.pool.open, len(rig.pool.idle)) == (0, 0)


def test_a_connection_that_has_caught_up_is_used_again() -> None:
    rig = Rig()
    rig.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    upstream = rig.upstreams[0]
    upstream.protocol.pause_writing()
    upstream.protocol.resume_writing()
    upstream.protocol.data_received(OK)
    rig.settle()
    assert len(rig.pool.idle) == 1
