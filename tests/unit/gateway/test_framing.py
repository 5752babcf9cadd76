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
    is_request_id,
    joined,
    remove,
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
    with pytest.raises(Refused, match="request target"):
        check(head(target))


def test_the_server_itself_may_be_asked_for_its_options():
    assert check(head(b"*"), b"OPTIONS").target == b"*"


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
