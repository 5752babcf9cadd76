"""What is refused is never forwarded: whole, byte by byte, behind and after a good request."""

from __future__ import annotations

import pytest

GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CODED = HEAD + b"Transfer-Encoding: chunked\r\n"
CHUNKS = CODED + b"\r\n"
BODY = b"5\r\nhello\r\n0\r\n\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def get(line: bytes) -> bytes:
    """A request whose first line is this one."""
    return line + b"\r\nHost: a\r\n\r\n"


def host(value: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n"


def field(line: bytes) -> bytes:
    return GET + line + b"\r\n\r\n"


def length(value: bytes) -> bytes:
    return HEAD + b"Content-Length: " + value + b"\r\n\r\nhello" + NEXT


def coding(value: bytes) -> bytes:
    return HEAD + b"Transfer-Encoding: " + value + b"\r\n\r\n" + BODY + NEXT


def chunks(data: bytes) -> bytes:
    return CHUNKS + data + NEXT


FRAMING = {
    "length and coding": HEAD + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
    "coding and length": CODED + b"Content-Length: 6\r\n\r\n" + BODY,
    "length 0 and coding": HEAD + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
    "length and other coding": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: x\r\n\r\nhello",
    "length and empty coding": HEAD + b"Content-Length: 5\r\nTransfer-Encoding:\r\n\r\nhello",
    "two equal lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "two lengths apart": HEAD + b"Content-Length: 5\r\nX: a\r\ncontent-length: 0\r\n\r\nhello",
    "list of lengths": length(b"5, 5"),
    "list of one length": length(b"5,"),
    "signed length": length(b"+5"),
    "negative length": length(b"-5"),
    "negative zero": length(b"-0"),
    "hexadecimal length": length(b"0x5"),
    "length with a point": length(b"5.0"),
    "length with an exponent": length(b"5e0"),
    "length with a space in it": length(b"5 0"),
    "length with an underscore": length(b"1_0"),
    "length in words": length(b"five"),
    "length in other digits": length("٥".encode()),
    "length with a tab after it": length(b"5\t"),
    "quoted length": length(b'"5"'),
    "empty length": length(b""),
    "length after a control character": length(b"\x0b5"),
    "length above 64 bits": length(b"18446744073709551621"),
    "length of 25 digits": length(b"9" * 25),
    "length of 20 zeros and a digit": length(b"0" * 20 + b"5"),
    "gzip and chunked": coding(b"gzip, chunked"),
    "chunked and gzip": coding(b"chunked, gzip"),
    "chunked twice in one line": coding(b"chunked, chunked"),
    "chunked twice in two lines": CODED + b"Transfer-Encoding: chunked\r\n\r\n" + BODY,
    "another coding in a second line": CODED + b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "another coding in a first line": HEAD
    + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
    "identity": coding(b"identity"),
    "empty coding": coding(b""),
    "chunked with a comma": coding(b"chunked,"),
    "comma and chunked": coding(b",chunked"),
    "chunked with a parameter": coding(b"chunked;q=1"),
    "quoted chunked": coding(b'"chunked"'),
    "xchunked": coding(b"xchunked"),
    "chunkedx": coding(b"chunkedx"),
    "chunked with a tab after it": coding(b"chunked\t"),
    "chunked after a vertical tab": coding(b"\x0bchunked"),
    "chunked with a form feed": coding(b"chunked\x0c"),
    "chunked with NUL": coding(b"chunked\0"),
    "chunked with a high byte": coding(b"\xa0chunked"),
    "coding in HTTP/1.0": CODED.replace(b"1.1", b"1.0") + b"\r\n" + BODY,
    "coding with a space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n" + BODY,
    "length with a space before the colon": HEAD + b"Content-Length : 5\r\n\r\nhello",
    "coding in a folded line": HEAD + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + BODY,
    "coding behind a bare line feed": HEAD + b"X: a\nTransfer-Encoding: chunked\r\n\r\n" + BODY,
    "coding behind a bare carriage return": HEAD
    + b"X: a\rTransfer-Encoding: chunked\r\n\r\n" + BODY,
}  # fmt: skip

CHUNKED = {
    "no size": chunks(b"\r\nhello\r\n0\r\n\r\n"),
    "size in words": chunks(b"zz\r\nhello\r\n0\r\n\r\n"),
    "signed size": chunks(b"+5\r\nhello\r\n0\r\n\r\n"),
    "negative size": chunks(b"-5\r\nhello\r\n0\r\n\r\n"),
    "size with 0x": chunks(b"0x5\r\nhello\r\n0\r\n\r\n"),
    "space before the size": chunks(b" 5\r\nhello\r\n0\r\n\r\n"),
    "space after the size": chunks(b"5 \r\nhello\r\n0\r\n\r\n"),
    "tab after the size": chunks(b"5\t\r\nhello\r\n0\r\n\r\n"),
    "size with an underscore": chunks(b"0_5\r\nhello\r\n0\r\n\r\n"),
    "size above 64 bits": chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "size without an end": chunks(b"fffffffffffffffff\r\nhello\r\n"),
    "bare line feed after the size": chunks(b"5\nhello\r\n0\r\n\r\n"),
    "bare carriage return after the size": chunks(b"5\rhello\r\n0\r\n\r\n"),
    "bare line feed after the data": chunks(b"5\r\nhello\n0\r\n\r\n"),
    "nothing after the data": chunks(b"5\r\nhello0\r\n\r\n"),
    "data longer than the size": chunks(b"3\r\nhello\r\n0\r\n\r\n"),
    "data shorter than the size": chunks(b"6\r\nhello\r\n0\r\n\r\n"),
    "extension without a size": chunks(b";a=b\r\nhello\r\n0\r\n\r\n"),
    "empty extension": chunks(b"5;\r\nhello\r\n0\r\n\r\n"),
    "control character in an extension": chunks(b"5;a=\x01\r\nhello\r\n0\r\n\r\n"),
    "bare line feed in an extension": chunks(b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "bare carriage return in an extension": chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    "open quote in an extension": chunks(b'5;a="b\r\nhello\r\n0\r\n\r\n'),
    "bare line feed at the end": chunks(b"5\r\nhello\r\n0\r\n\n"),
    "bare line feeds throughout": chunks(b"5\nhello\n0\n\n"),
    "space before the colon in a trailer": chunks(b"0\r\nX : a\r\n\r\n"),
    "folded trailer": chunks(b"0\r\nX: a\r\n b\r\n\r\n"),
    "trailer without a colon": chunks(b"0\r\nX\r\n\r\n"),
    "bare line feed in a trailer": chunks(b"0\r\nX: a\nY: b\r\n\r\n"),
    "length as a trailer": chunks(b"0\r\nContent-Length: 5\r\n\r\n"),
    "coding as a trailer": chunks(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "Connection as a trailer": chunks(b"0\r\nConnection: close\r\n\r\n"),
    "NUL in a trailer": chunks(b"0\r\nX: \0\r\n\r\n"),
}

FIELDS = {
    "folded line": field(b"X: a\r\n b"),
    "line folded with a tab": field(b"X: a\r\n\tb"),
    "space before the first field": b"GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n",
    "bare line feed in a value": field(b"X: a\nY: b"),
    "bare carriage return in a value": field(b"X: a\rY: b"),
    "bare line feed after a value": GET + b"X: a\n\r\n",
    "bare line feed at the end": GET + b"\n",
    "bare carriage return at the end": GET + b"\rX: a\r\n\r\n",
    "line feeds only": b"GET / HTTP/1.1\nHost: a\n\n",
    "NUL in a value": field(b"X: a\0b"),
    "NUL in a name": field(b"X\0: a"),
    "control character in a value": field(b"X: \x01"),
    "DEL in a value": field(b"X: \x7f"),
    "escape in a value": field(b"X: \x1b[0m"),
    "space before the colon": field(b"X : a"),
    "tab before the colon": field(b"X\t: a"),
    "space in a name": field(b"X Y: a"),
    "no name": field(b": a"),
    "no colon": field(b"X"),
    "parenthesis in a name": field(b"X(: a"),
    "high byte in a name": field(b"\xe4: a"),
    "quote in a name": field(b'"X": a'),
    "odd expectation": HEAD + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello",
    "two expectations": HEAD + b"Expect: 100-continue, x\r\nContent-Length: 5\r\n\r\nhello",
}

HOSTS = {
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": host(b"a\r\nHost: b"),
    "two equal Hosts": host(b"a\r\nHost: a"),
    "a second Host that is empty": host(b"a\r\nHost:"),
    "empty Host": host(b""),
    "list of hosts": host(b"a, b"),
    "Host with a path": host(b"a/b"),
    "Host with a space": host(b"a b"),
    "Host with a user": host(b"u@a"),
    "Host with a scheme": host(b"http://a"),
    "Host with a query": host(b"a?b"),
    "Host with a fragment": host(b"a#b"),
    "Host with a backslash": host(b"a\\b"),
    "Host with a quote": host(b'"a"'),
    "Host with a bracket": host(b"<a>"),
    "Host with a high byte": host(b"\xe4"),
    "Host with a port in words": host(b"a:http"),
    "Host with two ports": host(b"a:1:2"),
    "Host with a port too long": host(b"a:123456"),
    "Host with an open address": host(b"[::1"),
    "Host with an address without brackets": host(b"::1"),
    "Host with an odd escape": host(b"a%zz"),
    "Host of 300 bytes": host(b"a" * 300),
    "Host in HTTP/1.0 that is odd": b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n",
    "two Hosts beside a target with one": b"GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no Host beside a target with one": b"GET http://a/ HTTP/1.1\r\n\r\n",
}

LINES = {
    "CONNECT": get(b"CONNECT a:1 HTTP/1.1"),
    "CONNECT with a path": get(b"CONNECT / HTTP/1.1"),
    "unknown method": get(b"FROB / HTTP/1.1"),
    "method in lower case": get(b"get / HTTP/1.1"),
    "method with a control character": get(b"G\x01T / HTTP/1.1"),
    "tab after the method": get(b"GET\t/ HTTP/1.1"),
    "space before the method": get(b" GET / HTTP/1.1"),
    "no target": get(b"GET HTTP/1.1"),
    "target without a slash": get(b"GET a/b HTTP/1.1"),
    "target of a query alone": get(b"GET ?a HTTP/1.1"),
    "asterisk without OPTIONS": get(b"GET * HTTP/1.1"),
    "target with another scheme": get(b"GET ftp://a/ HTTP/1.1"),
    "target with a user": get(b"GET http://u@a/ HTTP/1.1"),
    "target without a host": get(b"GET http:///x HTTP/1.1"),
    "target with an odd host": get(b"GET http://a:b/ HTTP/1.1"),
    "target with a space": get(b"GET /a b HTTP/1.1"),
    "target with a tab": get(b"GET /a\tb HTTP/1.1"),
    "target with NUL": get(b"GET /\0 HTTP/1.1"),
    "target with a control character": get(b"GET /\x01 HTTP/1.1"),
    "target with DEL": get(b"GET /\x7f HTTP/1.1"),
    "target with a high byte": get("GET /ä HTTP/1.1".encode()),
    "target with a fragment": get(b"GET /a#b HTTP/1.1"),
    "target with a bare carriage return": get(b"GET /a\rb HTTP/1.1"),
    "protocol in lower case": get(b"GET / http/1.1"),
    "another protocol": get(b"GET / XTTP/1.1"),
    "RTSP": get(b"GET / RTSP/1.0"),
    "RTSP in HTTP's version": get(b"GET / RTSP/1.1"),
    "RTSP in a version not spoken": get(b"GET / RTSP/2.0"),
    "RTSP as a target and a protocol": get(b"GET /RTSP/1.0 RTSP/1.0"),
    "RTSP behind more spaces": get(b"OPTIONS   /good   RTSP/1.1"),
    "RTSP for the target before": get(b"GET /good RTSP/1.1"),
    "RTSP behind an empty line": get(b"\r\nGET /good RTSP/1.1"),
    "RTSP beside HTTP in a field": get(b"GET / RTSP/1.1\r\nX: GET / HTTP/1.1"),
    "a method of RTSP": get(b"DESCRIBE / RTSP/1.0"),
    "ICE": get(b"SOURCE / ICE/1.0"),
    "ICE for the target before": get(b"SOURCE /good ICE/1.1"),
    "space after the version": get(b"GET / HTTP/1.1 "),
    "version without a point": get(b"GET / HTTP/11"),
    "version of three parts": get(b"GET / HTTP/1.1.1"),
    "version 1.2": get(b"GET / HTTP/1.2"),
    "version 1.10": get(b"GET / HTTP/1.10"),
    "version with a bare line feed": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x01" * 20,
    "SOCKS": b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00",
    "words": b"hello there\r\n\r\n",
}

OTHER_STATUS = {
    "version 2": (get(b"GET / HTTP/2.0"), 505),
    "version 0.9": (get(b"GET / HTTP/0.9"), 505),
    "no version": (b"GET /\r\n\r\n", 505),
    "odd expectation": (FIELDS.pop("odd expectation"), 417),
    "two expectations": (FIELDS.pop("two expectations"), 417),
    "long target": (get(b"GET /" + b"a" * 9000 + b" HTTP/1.1"), 414),
    "long target without an end": (b"GET /" + b"a" * 9000, 414),
    "long target with a host": (get(b"GET http://a/" + b"a" * 9000 + b" HTTP/1.1"), 414),
    "long field": (field(b"X: " + b"a" * 40_000), 431),
    "long name": (field(b"a" * 40_000 + b": b"), 431),
    "many fields": (field(b"\r\n".join(b"X-%d: a" % n for n in range(6000))), 431),
    "long field that is dropped": (field(b"Keep-Alive: " + b"a" * 40_000), 431),
    "long field without an end": (GET + b"X: " + b"a" * 400_000, 431),
    "long trailer": (CHUNKS + b"5\r\nhello\r\n0\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    "many trailers": (CHUNKS + b"0\r\n" + b"X: abcdefgh\r\n" * 6000 + b"\r\n", 431),
    "long extension": (CHUNKS + b"5;a=" + b"b" * 400_000 + b"\r\nhello\r\n0\r\n\r\n", 431),
    "many extensions": (CHUNKS + (b"1;a=" + b"b" * 100 + b"\r\nx\r\n") * 4000, 431),
    "long extension in one read": (
        CHUNKS + b"5;a=" + b"b" * 50_000 + b"\r\nhello\r\n0\r\n\r\n",
        431,
    ),
    "many extensions in one read": (
        CHUNKS + (b"1;a=" + b"b" * 100 + b"\r\nx\r\n") * 600 + b"0\r\n\r\n",
        431,
    ),
    "body above the limit": (length(b"100001"), 413),
    "body far above the limit": (length(b"9" * 15), 413),
    "body above the limit, expected": (
        HEAD + b"Expect: 100-continue\r\nContent-Length: 200000\r\n\r\n",
        413,
    ),
    "chunked body above the limit": (CHUNKS + b"30000\r\n" + b"x" * 0x30000, 413),
}

CASES = {
    name: (data, 400)
    for table in (FRAMING, CHUNKED, FIELDS, HOSTS, LINES)
    for name, data in table.items()
} | OTHER_STATUS
BROKEN_LATER = set(CHUNKED) | {name for name in OTHER_STATUS if CHUNKS in OTHER_STATUS[name][0]}
PIECES = {"whole": 0, "byte by byte": 1, "behind a good one": 0, "after a good one": 0}


def test_there_are_enough_cases_and_no_name_hides_another():
    tables = (FRAMING, CHUNKED, FIELDS, HOSTS, LINES, OTHER_STATUS)
    names = [name for table in tables for name in table]
    assert len(names) >= 150
    assert len(CASES) == len(set(names))


@pytest.mark.parametrize("way", PIECES)
@pytest.mark.parametrize("case", CASES)
def test_refused_and_never_forwarded(served, raw, case, way):
    data, expected = CASES[case]
    client = raw()
    served.forget()
    if way == "after a good one":
        client.send(GOOD)
        assert client.answer()[0] == 200
    elif way == "behind a good one":
        data = GOOD + data
    # A long case is cut, too, but not into a packet for each byte.
    client.send(data, piece_bytes=max(PIECES[way], len(data) // 1000) if PIECES[way] else 0)
    if way == "behind a good one":
        assert client.answer()[0] == 200
    status, headers, body = client.answer()
    assert (status, headers["connection"]) == (expected, "close")
    assert b'"error"' in body
    assert client.is_at_end()
    another = raw()
    another.send(GOOD)  # once it is answered, whatever was forwarded has reached the upstream
    assert another.answer()[0] == 200
    expected_count = 2 if "good" in way else 1
    assert [seen.target for seen in served.seen] == ["/good"] * expected_count
    # Of a body, what came before the fault may have gone on; it never becomes a whole request.
    if case not in BROKEN_LATER:
        assert served.begun == ["/good"] * expected_count


def test_of_like_requests_in_one_read_only_the_one_of_another_protocol_is_refused(served, raw):
    client = raw()
    served.forget()
    client.send(GOOD.replace(b"/good", b"/first") + GOOD + GOOD.replace(b"HTTP/1.1", b"RTSP/1.1"))
    assert [client.answer()[0] for _ in range(3)] == [200, 200, 400]
    assert client.is_at_end()
    assert [seen.target for seen in served.seen] == ["/first", "/good"]
