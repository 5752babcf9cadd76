"""Which heads may pass, and what of them goes on."""

from __future__ import annotations

import pytest

from gateway.exchange import Exchange
from gateway.framing import (
    MAX_LENGTH_DIGITS,
    NEVER_TRAILERS,
    PROTECTED,
    Refused,
    check_request,
    chunk,
    cookie_value,
    drop_named,
    has_no_body,
    is_http,
    is_request_id,
    joined,
    last_chunk,
    remove,
    status_line,
    without,
)


def head(target=b"/", **headers):
    exchange = Exchange(None, target, 0)
    exchange.headers, exchange.parts = {}, []
    exchange.headers = {
        name.replace("_", "-").encode(): value for name, value in ({"host": b"a"} | headers).items()
    }
    for name, value in exchange.headers.items():
        exchange.parts += (name, b": ", value, b"\r\n")
    return exchange


def check(exchange, method=b"GET", version="1.1", *, keep_alive=True):
    check_request(exchange, method, version, keep_alive=keep_alive)
    return exchange


@pytest.mark.parametrize(
    ("headers", "chunked", "wants_body"),
    [
        ({}, False, False),
        ({"content_length": b"0"}, False, False),
        ({"content_length": b"00"}, False, False),
        ({"content_length": b"10"}, False, True),
        ({"transfer_encoding": b"Chunked"}, True, True),
    ],
)
def test_the_framing_of_a_body(headers, chunked, wants_body):
    exchange = check(head(**headers))
    assert (exchange.chunked, exchange.wants_body) == (chunked, wants_body)


@pytest.mark.parametrize(
    ("headers", "method", "version", "status"),
    [
        ({"host": b""}, b"GET", "1.1", 400),
        ({"host": b"a, b"}, b"GET", "1.1", 400),
        ({"transfer_encoding": b"gzip, chunked"}, b"POST", "1.1", 400),
        ({"transfer_encoding": b"chunked"}, b"POST", "1.0", 400),
        ({}, b"CONNECT", "1.1", 400),
        ({}, b"GET", "2.0", 505),
        ({}, b"GET", "0.9", 505),
        ({"expect": b"tea"}, b"GET", "1.1", 417),
        ({"expect": b"0"}, b"GET", "1.1", 417),
    ],
)
def test_what_is_refused(headers, method, version, status):
    with pytest.raises(Refused) as refused:
        check(head(**headers), method, version)
    assert refused.value.status == status


def test_http_1_0_may_come_without_a_host_and_always_closes():
    exchange = head()
    del exchange.headers[b"host"]
    with pytest.raises(Refused, match="no Host"):
        check(exchange)
    assert check(exchange, version="1.0").close
    assert not check(head()).close
    assert check(head(), keep_alive=False).close


@pytest.mark.parametrize(
    ("target", "expected", "host"),
    [
        (b"http://b/path?q", b"/path?q", b"b"),
        (b"HTTPS://b:8/", b"/", b"b:8"),
        (b"http://b", b"/", b"b"),
        (b"http://b?q=/x", b"/?q=/x", b"b"),
    ],
)
def test_an_absolute_target_stands_over_host(target, expected, host):
    exchange = check(head(target))
    assert (exchange.target, exchange.headers[b"host"]) == (expected, host)
    assert exchange.parts == [b"Host", b": ", host, b"\r\n"]


@pytest.mark.parametrize("target", [b"http://", b"http:///x", b"http://u@b/", b"ftp://b/", b"*"])
def test_other_targets_are_refused(target):
    with pytest.raises(Refused, match="request target") as refused:
        check(head(target))
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("target", "expected"), [(b"*", b"*"), (b"http://b", b"*"), (b"http://b/a", b"/a")]
)
def test_the_server_itself_may_be_asked_for_its_options(target, expected):
    assert check(head(target), b"OPTIONS").target == expected


def test_connection_removes_what_it_names_but_never_the_framing():
    parts = [b"X-One", b": ", b"1", b"\r\n", b"Content-Length", b": ", b"2", b"\r\n"]
    drop_named(parts, b"close, X-ONE , content-length")
    assert parts == [b"Content-Length", b": ", b"2", b"\r\n"]
    drop_named(parts, b"keep-alive")
    remove(parts, frozenset({b"content-length"}))
    assert parts == []


def test_values_of_one_name_are_joined_so_that_a_list_never_passes_for_one():
    assert joined(b"host", b"a", b"b") == b"a, b"
    assert joined(b"cookie", b"a=1", b"b=2") == b"a=1; b=2"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"abc-1", True), (b"", False), (b"a b", False), (b"a" * 129, False), (b"a\xff", False)],
)
def test_request_ids_are_short_and_printable(value, expected):
    assert is_request_id(value) is expected


def test_cookies_are_found_by_their_whole_name():
    header = b'xuid=1; uid="2"; uid=3; flag'
    assert cookie_value(header, b"uid") == b"2"
    assert cookie_value(header, b"flag") is None


def test_a_chunk_carries_its_size_in_hex():
    assert chunk(b"a" * 26) == b"1a\r\n" + b"a" * 26 + b"\r\n"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"upgrade": b"websocket"}, b"websocket"),
        ({"upgrade": b"odd/2"}, b"odd/2"),
        ({"upgrade": b"websocket", "connection": b"close, x"}, b""),
        ({"upgrade": b"websocket", "content_length": b"3"}, b""),
        ({"upgrade": b"a, b"}, b""),
        ({"upgrade": b""}, b""),
        ({"upgrade": b"h2c"}, b""),
        ({"upgrade": b"TLS/1.2"}, b""),
        ({"upgrade": b"http/2"}, b""),
        ({}, b""),
    ],
)
def test_a_protocol_is_switched_to_only_where_nothing_hides_in_it(headers, expected):
    exchange = check(head(**({"connection": b"x, Upgrade"} | headers)))
    assert exchange.upgrade == expected


def test_no_protocol_is_switched_to_on_a_connection_that_closes():
    exchange = check(head(connection=b"upgrade", upgrade=b"websocket"), keep_alive=False)
    assert exchange.upgrade == b""


def test_a_length_has_as_many_digits_as_every_server_reads():
    assert check(head(content_length=b"9" * MAX_LENGTH_DIGITS)).wants_body
    assert len(str(2**63)) == MAX_LENGTH_DIGITS
    with pytest.raises(Refused, match=f"{MAX_LENGTH_DIGITS + 1} digits"):
        check(head(content_length=b"9" * (MAX_LENGTH_DIGITS + 1)))


def test_what_frames_or_routes_a_message_is_no_trailer():
    framing = {b"transfer-encoding", b"connection", b"te", b"x-request-id", b"x-served-by"}
    assert framing | PROTECTED <= NEVER_TRAILERS


def test_a_framing_that_1_0_does_not_know_is_refused_without_any_other_header():
    exchange = head(transfer_encoding=b"chunked")
    del exchange.headers[b"host"]
    with pytest.raises(Refused) as refused:
        check(exchange, b"POST", "1.0")
    assert refused.value.status == 400


@pytest.mark.parametrize(("version", "waits"), [("1.1", True), ("1.0", False)])
def test_only_1_1_is_told_to_continue(version, waits):
    exchange = check(head(expect=b"100-Continue", content_length=b"5"), b"POST", version)
    assert exchange.expects_continue is waits
    assert not check(head(content_length=b"5"), b"POST").expects_continue


def test_that_trailers_are_taken_is_passed_on_and_nothing_else_of_te():
    exchange = check(head(te=b"gzip;q=0.5, Trailers"))
    assert exchange.parts[-8:] == [
        *(b"te", b": ", b"trailers", b"\r\n"),
        *(b"connection", b": ", b"te", b"\r\n"),
    ]
    assert check(head(te=b"gzip")).parts[-4:] == [b"te", b": ", b"gzip", b"\r\n"]


@pytest.mark.parametrize(
    ("lines", "names", "kept"),
    [
        (b"", {b"a"}, b""),
        (b"A: 1\r\n", set(), b"A: 1\r\n"),
        (b"A: 1\r\nB: a: 2\r\na: 3\r\n", {b"a"}, b"B: a: 2\r\n"),
        (b"A: 1\r\n", {b"a", b"b"}, b""),
    ],
)
def test_lines_are_left_out_by_their_whole_names(lines, names, kept):
    assert without(lines, frozenset(names)) == kept


@pytest.mark.parametrize(
    ("raw", "is_at_start", "expected"),
    [
        (b"GET /a HTTP/1.1\r\n", True, True),
        (b"GET /a RTSP/1.0\r\n", True, False),
        (b"GET /a ICE/1.0\r\n", True, False),
        (b"\r\nGET /a RTSP/1.0\r\n", True, False),
        (b"T /a RTSP/1.0\r\n", True, False),
        (b"T /a HTTP/1.1\r\n", True, True),
        # Said by the next request, or by a header: this one is HTTP all the same.
        (b"GET /a HTTP/1.1\r\nx: GET /a RTSP/1.0\r\n", True, True),
        (b"T /a HTTP/1.1\r\n\r\nGET /b ICE/1.0\r\n", True, True),
        # In the middle of what was read.
        (b"body\r\nGET /a HTTP/1.1\r\n", False, True),
        (b"bodyGET /a RTSP/1.0\r\n", False, False),
        (b"bodyGET /a  ICE/1.0\r\n", False, False),
        (b"GET /a HTTP/1.1\r\n\r\nGET /a RTSP/1.0\r\n", False, False),
        (b"GET /a HTTP/1.1\r\n\r\nGET /b RTSP/1.0\r\n", False, True),
        (b"GET /a HTTP/1.1\r\n\r\nPUT /a RTSP/1.0\r\n", False, True),
    ],
)
def test_a_request_line_of_another_protocol_is_told_apart(raw, is_at_start, expected):
    assert is_http(raw, b"GET", b"/a", is_at_start=is_at_start) is expected


def test_a_target_is_no_pattern():
    assert is_http(b"GET /a+ RTSP/1.0\r\n", b"GET", b"/a+", is_at_start=True) is False
    assert is_http(b"T /aa RTSP/1.0\r\n", b"GET", b"/a+", is_at_start=True) is True


def test_the_last_chunk_carries_the_trailers():
    assert last_chunk(b"") == b"0\r\n\r\n"
    assert last_chunk(b"a: 1\r\n") == b"0\r\na: 1\r\n\r\n"


def test_what_has_no_body_by_its_status():
    assert [status for status in range(200, 600) if has_no_body(status)] == [204, 304]


def test_a_phrase_is_passed_on_unless_it_cannot_be_one() -> None:
    assert status_line(529, b"Overloaded") == b"HTTP/1.1 529 Overloaded\r\n"
    assert status_line(200, b"") == b"HTTP/1.1 200 \r\n"
    assert status_line(404, b"a\x00b") == b"HTTP/1.1 404 Not Found\r\n"
