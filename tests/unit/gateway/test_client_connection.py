"""A client's connection between two requests, and while one side does not read."""

from __future__ import annotations

from time import monotonic_ns

from gateway.downstream import FLUSH_NS, LINGER_NS
from tests.fuzz.harness import Rig

SECOND_NS = 1_000_000_000

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"


def seconds_left(rig: Rig) -> float:
    return (rig.client.deadline_ns - monotonic_ns()) / SECOND_NS


def statuses(rig: Rig) -> list[bytes]:
    return [each[:3] for each in bytes(rig.transport.written).split(b"HTTP/1.1 ")[1:]]


def take_long(rig: Rig, seconds: int) -> None:
    """As if the request had come so long ago."""
    rig.client.read_ns -= seconds * SECOND_NS


def test_an_idle_connection_has_its_whole_time_after_a_long_answer():
    for answer in (OK, STREAM + b"0\r\n\r\n"):
        rig = Rig()
        rig.feed(GET)
        take_long(rig, 200)
        rig.upstreams[0].protocol.data_received(answer)
        assert 70 < seconds_left(rig) <= 75


def test_an_idle_connection_has_its_whole_time_after_a_late_failure():
    rig = Rig()
    rig.feed(GET)
    take_long(rig, 200)
    rig.upstreams[0].report(ConnectionResetError())
    assert statuses(rig) == [b"502"]
    assert 70 < seconds_left(rig) <= 75


def test_what_a_slow_client_is_owed_is_not_thrown_away_when_the_connection_has_been_idle():
    rig = Rig()
    rig.feed(GET)
    rig.upstreams[0].protocol.data_received(OK)
    rig.transport.unsent_bytes = 10
    rig.client.on_deadline()
    assert rig.transport.closing
    assert not rig.transport.is_aborted
    assert 55 < seconds_left(rig) <= FLUSH_NS / SECOND_NS
    rig.client.on_deadline()
    assert rig.transport.is_aborted


def test_a_connection_that_closes_after_its_answer_has_time_for_the_rest_of_it():
    rig = Rig()
    rig.feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    rig.client.deadline_ns = 0  # the answer comes just in time
    rig.upstreams[0].protocol.data_received(OK)
    assert rig.transport.closing
    assert 55 < seconds_left(rig) <= FLUSH_NS / SECOND_NS


def test_a_refused_client_that_reads_slowly_is_told_all_the_same():
    rig = Rig()
    rig.feed(b"GET / HTTP/9.9\r\n\r\n")
    assert 0 < seconds_left(rig) <= LINGER_NS / SECOND_NS
    rig.transport.unsent_bytes = 10
    rig.client.on_deadline()
    assert not rig.transport.is_aborted
    assert 55 < seconds_left(rig) <= FLUSH_NS / SECOND_NS


def test_an_idle_client_that_has_read_everything_is_closed_at_once():
    rig = Rig()
    rig.feed(GET)
    rig.upstreams[0].protocol.data_received(OK)
    rig.client.on_deadline()
    assert rig.transport.is_aborted


def a_full_upstream(rig: Rig) -> None:
    """Half of a request is with an upstream that takes no more once the rest has come."""
    rig.feed(POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 100_000)
    upstream = rig.upstreams[0]
    write = upstream.write

    def fill(data: bytes) -> None:
        write(data)
        upstream.protocol.pause_writing()

    upstream.write = fill  # type: ignore[method-assign]
    rig.feed(b"x" * 100_000)


def test_a_client_is_read_again_after_an_upstream_that_took_too_little_has_died():
    rig = Rig()
    a_full_upstream(rig)
    rig.upstreams[0].report(ConnectionResetError())
    rig.settle()
    assert statuses(rig) == [b"502"]
    assert rig.transport.reads
    rig.feed(GET)
    assert len(rig.upstreams) == 2


def test_a_client_is_read_again_after_an_answer_to_a_body_that_was_not_taken():
    rig = Rig()
    a_full_upstream(rig)
    rig.upstreams[0].protocol.data_received(b"HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n")
    rig.settle()
    assert statuses(rig) == [b"429"]
    assert rig.transport.reads


def test_a_client_is_not_read_while_its_body_can_go_nowhere():
    rig = Rig()
    rig.feed(POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 100_000)
    rig.upstreams[0].protocol.pause_writing()
    assert not rig.transport.reads
    rig.upstreams[0].protocol.resume_writing()
    assert rig.transport.reads


def test_a_body_that_comes_under_an_answer_keeps_the_exchange_alive():
    rig = Rig()
    rig.feed(POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    rig.upstreams[0].protocol.data_received(STREAM)
    rig.client.deadline_ns = monotonic_ns() + SECOND_NS
    rig.feed(b"2\r\nhi\r\n")
    assert 55 < seconds_left(rig) <= 60


def test_a_refusal_waits_for_the_answers_before_it():
    rig = Rig()
    rig.feed(GET * 2)
    first = rig.upstreams[0].protocol
    first.data_received(OK)  # the second request is sent in the next turn of the loop
    rig.client.data_received(b"\0\0\r\n")
    rig.settle()
    assert statuses(rig) == [b"200"]
    first.data_received(OK)
    rig.settle()
    assert statuses(rig) == [b"200", b"200", b"400"]


def test_what_was_held_back_behind_a_switch_is_read_before_what_comes_later():
    rig = Rig()
    get = b"GET /%d HTTP/1.1\r\nHost: a\r\nx-user-id: a\r\n\r\n"
    rig.feed(get % 3)
    upstream = rig.upstreams[0]
    upstream.protocol.data_received(OK)
    rig.settle()
    switch = b"GET /1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    rig.feed(switch[:-1])  # in two reads, so that it is not compared with the one before
    rig.feed(switch[-1:] + get % 2)
    upstream.protocol.data_received(OK)
    rig.client.data_received(get % 3)  # in the same turn of the loop, like the first
    rig.settle()
    upstream.protocol.data_received(OK)
    rig.settle()
    lines = [each.split(b" ")[0] for each in bytes(upstream.written).split(b"GET ")[1:]]
    assert lines == [b"/3", b"/1", b"/2", b"/3"]


def test_a_long_target_does_not_count_as_header_block_however_it_is_cut():
    fields = (b"x-a: " + b"y" * 1000 + b"\r\n") * 31
    head = b"GET /" + b"t" * 7000 + b" HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n"
    for size in (len(head), 1000):
        rig = Rig()
        for begin in range(0, len(head), size):
            rig.feed(head[begin : begin + size])
        assert len(rig.upstreams) == 1


def test_a_header_block_that_is_too_long_is_refused_before_its_end():
    rig = Rig()
    rig.feed(b"GET / HTTP/1.1\r\nHost: a\r\n")
    for _ in range(33):
        rig.feed(b"x-a: " + b"y" * 1000 + b"\r\n")
    assert statuses(rig) == [b"431"]


def test_a_request_that_waited_for_its_turn_is_assigned_by_the_time_at_which_that_comes():
    """The lease of the canary may have ended since it was read."""
    rig = Rig()
    rig.feed(GET)
    rig.upstreams[0].protocol.data_received(OK)
    rig.client.pause_writing()
    rig.feed(GET)
    take_long(rig, 60)
    rig.client.resume_writing()
    assert monotonic_ns() - rig.client.read_ns < 5 * SECOND_NS
    assert statuses(rig) == [b"200"]


def test_a_client_that_sends_on_gets_the_end_of_the_last_answer_before_a_reset():
    """RFC 9112, 9.6: what it sends behind that is read and dropped for a while."""
    rig = Rig()
    rig.flow.closing = True
    rig.feed(GET * 2)
    rig.upstreams[0].protocol.data_received(OK)
    assert rig.transport.ended
    assert not rig.transport.closing
    assert 0 < seconds_left(rig) <= LINGER_NS / SECOND_NS
    rig.client.on_deadline()
    assert rig.transport.closing


def test_a_client_that_pipelines_too_much_gets_all_answers_before_a_reset():
    rig = Rig()
    rig.feed(GET * 100)
    rig.feed(GET)
    while rig.client.current is not None:
        rig.upstreams[-1].protocol.data_received(OK)
        rig.settle()
    assert statuses(rig) == [b"200"] * 65
    assert rig.transport.ended
    assert not rig.transport.closing


def test_a_client_that_asked_for_the_end_is_closed_at_once():
    rig = Rig()
    rig.feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    rig.upstreams[0].protocol.data_received(OK)
    assert rig.transport.closing
    assert not rig.transport.ended


def test_a_drain_closes_the_connection_of_a_request_that_no_route_takes_too():
    rig = Rig()
    rig.flow.serve([], set())
    rig.feed(GET)
    assert statuses(rig) == [b"404"]
    assert not rig.transport.closing
    rig.flow.closing = True
    rig.feed(GET)
    assert statuses(rig) == [b"404", b"404"]
    assert rig.transport.closing
