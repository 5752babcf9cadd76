"""Comparing with the message before reads the same as llhttp does, or leaves it to llhttp."""

from __future__ import annotations

from typing import Any

from httptools import HttpParserError, HttpResponseParser
from hypothesis import given
from hypothesis import strategies as st

from gateway.client_rules import ClientRules
from gateway.exchange import Exchange
from gateway.plain import MAX_MISSES, RepeatedAnswer, RepeatedRequest, parts_of
from gateway.request_reader import RequestReader
from gateway.settings import ClientSettings, ForwardedMode, ForwardedSettings

RULES = ClientRules(ClientSettings())
RULES.look_at([b"x-user-id"])
BODY = b'{"query_text": "why"}'


class Flow:
    """As much of the flow as a reader needs."""

    rules = RULES
    only_route = None

    def match(self, exchange: Exchange) -> Any:
        return Route()


class Route:
    kept_bytes = bodies_bytes = 65536


class Reader(RequestReader):
    """llhttp's way, one read at a time."""

    def __init__(self, mode: ForwardedMode = ForwardedMode.REPLACE) -> None:
        flow: Any = Flow()
        settings = ForwardedSettings(mode=mode)
        flow.rules = ClientRules(ClientSettings(forwarded=settings))
        flow.rules.look_at([b"x-user-id"])
        super().__init__(flow)
        self._forwarding = flow.rules.forwarding("192.0.2.7", is_tls=False)
        self.refused: tuple[int, str] | None = None

    @property
    def taken(self) -> list[Exchange]:
        return [] if self.current is None else [self.current, *self.queue]

    def refuse(self, status: int, message: str) -> None:
        self.refused = (status, message)

    def feed(self, data: bytes) -> None:
        self._feed(data)

    @property
    def is_between(self) -> bool:
        return self._receiving is None and not self._in_body


def request(
    lines: list[bytes], body: bytes = BODY, first: bytes = b"POST /query HTTP/1.1"
) -> bytes:
    return b"\r\n".join([first, *lines]) + b"\r\n\r\n" + body


def lines_of(user: bytes = b"u1", length: int = len(BODY)) -> list[bytes]:
    return [
        b"Host: h:1",
        b"X-User-Id: " + user,
        b"Content-Type: application/json",
        b"Content-Length: %d" % length,
        b"accept: */*",
    ]


def slowly(data: bytes) -> Reader:
    reader = Reader()
    reader.feed(data)
    return reader


def learn(repeated: RepeatedRequest, data: bytes) -> None:
    reader = slowly(data)
    repeated.learn(data, reader.taken[0], RULES, reader._forwarding)


def learnt(data: bytes) -> RepeatedRequest:
    repeated = RepeatedRequest(RULES.max_headers_bytes)
    learn(repeated, data)
    return repeated


def read(repeated: RepeatedRequest, data: bytes) -> Exchange | None:
    client: Any = None
    return repeated.read(client, data, 0)


def assert_same(fast: Exchange, data: bytes) -> None:
    reader = slowly(data)
    assert reader.refused is None
    assert reader.is_between
    [slow] = reader.taken
    names = ("method", "target", "kept", "pending", "kept_bytes", "request_bytes", "complete")
    flags = ("close", "http10", "head_only", "chunked", "expects_continue")
    assert fast.forwarded == slow.forwarded
    for name in names + flags:
        assert getattr(fast, name) == getattr(slow, name), name
    assert {name: fast.headers[name] for name in slow.headers} == slow.headers
    assert parts_of(fast.raw_head) == slow.parts


def test_a_request_like_the_last_is_read_by_comparing() -> None:
    """Another user, another length: the rest is known."""
    repeated = learnt(request(lines_of()))
    body = b"{}"
    again = request(lines_of(b"someone else", len(body)), body)
    fast = read(repeated, again)
    assert fast is not None
    assert fast.headers[b"x-user-id"] == b"someone else"
    assert_same(fast, again)


def test_a_line_that_changed_once_may_change_again() -> None:
    """`accept` differs, so llhttp reads; from then on it is one of the lines that vary."""
    repeated = learnt(request(lines_of()))
    other = [*lines_of()[:-1], b"accept: text/html"]
    assert read(repeated, request(other)) is None
    learn(repeated, request(other))
    third = request([*lines_of()[:-1], b"accept: text/plain"])
    fast = read(repeated, third)
    assert fast is not None
    assert_same(fast, third)


def test_the_request_line_host_and_content_type_never_vary() -> None:
    """What they say matters too much to be compared by their characters alone."""
    repeated = learnt(request(lines_of()))
    for data in (
        request(lines_of(), first=b"POST /other HTTP/1.1"),
        request([b"Host: elsewhere", *lines_of()[1:]]),
        request([*lines_of()[:2], b"Content-Type: text/plain", *lines_of()[3:]]),
    ):
        assert read(repeated, data) is None
        learn(repeated, data)
        assert read(repeated, request(lines_of())) is None, "the line has not become a variable one"
        repeated = learnt(request(lines_of()))


def test_a_connection_whose_requests_are_never_alike_is_no_longer_compared() -> None:
    """Comparing costs a little; after a row of misses it is given up."""
    repeated = RepeatedRequest(RULES.max_headers_bytes)
    for number in range(MAX_MISSES + 2):
        data = request(lines_of(), first=b"POST /%d HTTP/1.1" % number)
        assert read(repeated, data) is None
        learn(repeated, data)
    assert read(repeated, data) is None


NASTY = st.sampled_from(
    [
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Connection: x-user-id",
        b"Expect: 100-continue",
        b"Content-Length: 3",
        b"Content-Length : 21",
        b"Content-Length: +21",
        b"X-User-Id: a",
        b"X-User-Id: a\x00b",
        b"X-User-Id: a\nTransfer-Encoding: chunked",
        b"X-User-Id: a\rb",
        b"X-User-Id:",
        b" folded",
        b"Host: two",
        b"Upgrade: websocket",
        b"X-Request-Id: given",
        b"X-Request-Id: two words",
        b"",
        b"no colon",
    ]
)
HEADS = st.lists(
    st.one_of(
        st.sampled_from(lines_of()),
        NASTY,
        st.binary(max_size=12).map(lambda value: b"X-User-Id: " + value),
        st.binary(max_size=12).map(lambda value: b"accept: " + value),
    ),
    max_size=7,
)
BODIES = st.sampled_from([BODY, b"", b"{}", BODY + b"POST / HTTP/1.1\r\n", BODY + BODY])


@given(first=HEADS, second=HEADS, body=BODIES, edit=st.integers(0, 4), base=st.booleans())
def test_comparing_never_accepts_what_llhttp_would_read_otherwise(
    first: list[bytes], second: list[bytes], body: bytes, edit: int, *, base: bool
) -> None:
    """Whatever was learnt and whatever comes: the same exchange, or none."""
    learn_from = request(lines_of() if base else first)
    if base and second:
        second = [*lines_of()[:edit], second[0], *lines_of()[edit + 1 :]]
    reader = slowly(learn_from)
    if reader.refused is not None or len(reader.taken) != 1:
        return
    repeated = RepeatedRequest(RULES.max_headers_bytes)
    repeated.learn(learn_from, reader.taken[0], RULES, reader._forwarding)
    data = request(second, body)
    fast = read(repeated, data)
    if fast is not None:
        assert_same(fast, data)


# ---- answers ------------------------------------------------------------------------------------


def answer(lines: list[bytes], body: bytes = b"42", first: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([first, *lines]) + b"\r\n\r\n" + body


ANSWER = [b"Date: Mon", b"Content-Type: application/json", b"Content-Length: 2"]


def test_an_answer_like_the_last_gives_its_own_fields_and_body() -> None:
    """Date and length change with every answer; `Connection` is not passed on."""
    repeated = RepeatedAnswer()
    repeated.learn(answer([*ANSWER, b"Connection: keep-alive"]), 200, b"")
    lines = [b"Date: Tue", ANSWER[1], b"Content-Length: 5", b"Connection: keep-alive"]
    assert repeated.body_of(answer(lines, b"hello")) == b"hello"
    assert repeated.fields == b"\r\n".join([*lines[:3], b""])
    assert repeated.status == 200
    assert repeated.content_type == b"application/json"


def test_a_value_that_makes_a_head_too_long_is_left_to_who_measures() -> None:
    """The head learnt was short; the next may not be as long as a read brings."""
    data = request(lines_of())
    repeated, bound = learnt(data), RULES.max_headers_bytes
    head_bytes = len(request(lines_of(user=b""), b""))
    assert read(repeated, request(lines_of(user=b"u" * (bound - head_bytes)))) is not None
    assert read(repeated, request(lines_of(user=b"u" * bound))) is None
    answers = RepeatedAnswer()
    answers.learn(answer(ANSWER), 200, b"")
    assert answers.body_of(answer([b"Date: " + b"d" * 60_000, *ANSWER[1:]])) == b"42"
    assert answers.body_of(answer([b"Date: " + b"d" * 70_000, *ANSWER[1:]])) is None


def test_nothing_is_an_answer_before_one_was_learnt() -> None:
    assert RepeatedAnswer().body_of(b"\r\n\r\n") is None
    assert RepeatedAnswer().body_of(answer(ANSWER)) is None


def test_another_status_is_another_answer() -> None:
    repeated = RepeatedAnswer()
    for first, status in ((b"HTTP/1.1 500 No", 500), (b"HTTP/1.1 404 No", 404)):
        data = answer(ANSWER, first=first)
        assert repeated.body_of(data) is None
        repeated.learn(data, status, b"")
        assert repeated.body_of(data) == b"42"


class Collector:
    """What llhttp says of one answer."""

    def __init__(self) -> None:
        self.parser = HttpResponseParser(self)
        self.body = b""
        self.complete = False
        self.keeps_alive = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True
        self.keeps_alive = self.parser.should_keep_alive()  # afterwards it has forgotten


@given(
    lines=st.lists(
        st.one_of(
            st.sampled_from(ANSWER),
            st.sampled_from(
                [
                    b"Transfer-Encoding: chunked",
                    b"Content-Length: 3",
                    b"Content-Length:  2 ",
                    b"Connection: close",
                    b"Date: a\nX: b",
                    b"Content-Type: text/event-stream",
                    b"X-Served-By: me",
                ]
            ),
            st.binary(max_size=8).map(lambda value: b"Date: " + value),
        ),
        max_size=5,
    ),
    body=st.sampled_from([b"42", b"", b"421", b"42HTTP/1.1 200 OK\r\n\r\n"]),
)
def test_an_answer_is_only_taken_where_llhttp_finds_the_same_body(
    lines: list[bytes], body: bytes
) -> None:
    """And never one that is framed in another way, or that ends the connection."""
    repeated = RepeatedAnswer()
    repeated.learn(answer(ANSWER), 200, b"")
    data = answer(lines, body)
    taken = repeated.body_of(data)
    if taken is None:
        return
    collector = Collector()
    try:
        collector.parser.feed_data(data)
    except HttpParserError as error:
        raise AssertionError("llhttp refuses what was taken") from error
    assert collector.complete
    assert collector.body == taken
    assert collector.keeps_alive


def test_what_is_said_about_the_client_is_the_same_on_both_ways() -> None:
    """Its own values are dropped, or believed and new each time."""
    for mode in ForwardedMode:
        reader = Reader(mode)
        repeated = RepeatedRequest(RULES.max_headers_bytes)
        for address in (b"10.0.0.1", b"10.0.0.2", b"10.0.0.2, 10.0.0.3"):
            data = request([*lines_of(), b"X-Forwarded-For: " + address, b"forwarded: for=x"])
            reader.feed(data)
            slow = reader.taken[-1]
            repeated.learn(data, slow, reader._rules, reader._forwarding)
            fast = read(repeated, data)
            assert fast is not None
            assert fast.forwarded == slow.forwarded
            assert parts_of(fast.raw_head) == slow.parts
            assert (address in slow.forwarded) is (mode is ForwardedMode.APPEND)


@given(cut=st.integers(0, 80), target=st.sampled_from([b"/", b"/a", b"/RTSP/1.0"]))
def test_another_protocol_is_refused_wherever_its_request_line_is_cut(
    cut: int, target: bytes
) -> None:
    """Behind a good request for the same target, in reads that begin and end anywhere."""
    good = b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % target
    data = good + good.replace(b"HTTP/1.1", b"RTSP/1.1")
    reader = Reader()
    for part in (data[:cut], data[cut:]):
        reader.feed(part)
    assert len(reader.taken) == 1
    assert reader.refused is not None
    assert reader.refused[0] == 400
