"""What is allowed reaches the upstream as it was meant, read there by another parser than ours."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CODED = HEAD + b"Transfer-Encoding: chunked\r\n"
CHUNKS = CODED + b"\r\n"
BODY = b"5\r\nhello\r\n0\r\n\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
SWITCH = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


@dataclass
class Case:
    """A request, what the upstream must see of it, and whether the connection then stays open."""

    sent: bytes
    method: str = "GET"
    target: str = "/"
    body: bytes = b""
    headers: dict[str, str | None] = field(default_factory=dict)
    """By name; None: must not be there."""
    trailers: dict[str, str] = field(default_factory=dict)
    stays: bool = True


def get(target: bytes, host: bytes = b"a") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host)


def one(name: str, value: str | None) -> dict[str, str | None]:
    return {name: value}


METHODS = {
    name: Case(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % name.encode(), name)
    for name in (
        *("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY", "SEARCH"),
        *("PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "ACL"),
        *("BIND", "LINK", "PURGE", "MKACTIVITY", "MERGE", "CHECKOUT", "MKCALENDAR", "REBIND"),
    )
}

TARGETS = {
    "query": Case(get(b"/a?b=c&d"), target="/a?b=c&d"),
    "escapes stay as they are": Case(get(b"/%2e%2E/%00%zz"), target="/%2e%2E/%00%zz"),
    "dots stay as they are": Case(get(b"/a/../b/./c//d"), target="/a/../b/./c//d"),
    "two slashes": Case(get(b"//b/c"), target="//b/c"),
    "odd but printable": Case(get(b"/\"<>\\^`{|}'"), target="/\"<>\\^`{|}'"),
    "8,000 bytes": Case(get(b"/" + b"a" * 8000), target="/" + "a" * 8000),
    "asterisk": Case(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS", "*"),
    "several spaces": Case(b"GET  /x   HTTP/1.1\r\nHost: a\r\n\r\n", target="/x"),
    "with a host": Case(get(b"http://b/c?d", b"other"), target="/c?d", headers=one("host", "b")),
    "with a host and port": Case(
        get(b"http://b:81/c", b"other"), target="/c", headers=one("host", "b:81")
    ),
    "with a host alone": Case(get(b"http://b", b"other"), headers=one("host", "b")),
    "with a host and query": Case(
        get(b"http://b?q=/x", b"other"), target="/?q=/x", headers=one("host", "b")
    ),
    "with a host, over TLS": Case(get(b"HTTPS://b/", b"other"), headers=one("host", "b")),
    "with a host, for OPTIONS": Case(
        b"OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS", "*", headers=one("host", "b")
    ),
    "with a host that is an address": Case(
        get(b"http://[::1]:80/", b"other"), headers=one("host", "[::1]:80")
    ),
}

HOSTS = {
    f"Host {value.decode()}": Case(get(b"/", value), headers=one("host", value.decode()))
    for value in (b"a", b"a:80", b"a:", b"under_score.example", b"127.0.0.1:8000", b"[2001:db8::1]")
} | {
    "no Host in HTTP/1.0": Case(b"GET / HTTP/1.0\r\n\r\n", stays=False),
    "spaces around Host": Case(
        b"GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n", headers=one("host", "a")
    ),
}  # fmt: skip

BODIES = {
    "length": Case(HEAD + b"Content-Length: 5\r\n\r\nhello", "POST", body=b"hello"),
    "length with zeros before it": Case(
        HEAD + b"Content-Length: 0005\r\n\r\nhello", "POST", body=b"hello"
    ),
    "length with spaces": Case(
        HEAD + b"Content-Length: \t 5  \r\n\r\nhello", "POST", body=b"hello"
    ),
    "length 0": Case(HEAD + b"Content-Length: 0\r\n\r\n", "POST"),
    "length with GET": Case(GET + b"Content-Length: 2\r\n\r\nhi", body=b"hi"),
    "a body like a request": Case(
        HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(GOOD), GOOD), "POST", body=GOOD
    ),
    "at the limit": Case(
        HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000, "POST", body=b"x" * 100_000
    ),
    "chunked": Case(CHUNKS + BODY, "POST", body=b"hello"),
    "chunked in capitals": Case(
        HEAD + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n" + BODY, "POST", body=b"hello"
    ),
    "chunked with spaces": Case(
        HEAD + b"Transfer-Encoding: \t chunked  \r\n\r\n" + BODY, "POST", body=b"hello"
    ),
    "no chunk but the last": Case(CHUNKS + b"0\r\n\r\n", "POST"),
    "several chunks": Case(CHUNKS + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "POST", body=b"hello"),
    "sizes in capitals and with zeros": Case(
        CHUNKS + b"00A\r\n0123456789\r\n000\r\n\r\n", "POST", body=b"0123456789"
    ),
    "extensions": Case(
        CHUNKS + b'5;a;b=c;d="e\\"f; g"\r\nhello\r\n0;x\r\n\r\n', "POST", body=b"hello"
    ),
    "a chunk like a request": Case(
        CHUNKS + b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD), "POST", body=GOOD
    ),
    "expected and sent at once": Case(
        HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        "POST", body=b"hello", headers=one("expect", None),
    ),
    "expected in HTTP/1.0": Case(
        b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        "POST", body=b"hello", stays=False,
    ),
}  # fmt: skip

TRAILERS = {
    "trailer": Case(
        CODED + b"Trailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Two: 2\r\n\r\n",
        "POST",
        body=b"hello",
        trailers={"x-sum": "1", "x-two": "2"},
        headers=one("trailer", "X-Sum"),
    ),
    "trailers that may not be": Case(
        CHUNKS + b"0\r\nHost: b\r\nAuthorization: b\r\n"
        b"Cookie: a\r\nX-Forwarded-For: 6.6.6.6\r\nX-Request-Id: z\r\n"
        b"Content-Type: a/b\r\nTE: x\r\nRange: a\r\nX-Kept: yes\r\n\r\n",
        "POST",
        trailers={"x-kept": "yes"},
    ),
    "trailers are wanted": Case(
        GET + b"TE: trailers, deflate\r\n\r\n", headers={"te": "trailers", "connection": "te"}
    ),
    "another TE": Case(GET + b"TE: deflate\r\n\r\n", headers={"te": None, "connection": None}),
}

FIELDS = {
    "empty value": Case(GET + b"X:\r\n\r\n", headers=one("x", "")),
    "spaces around a value": Case(GET + b"X: \t a b \t\r\n\r\n", headers=one("x", "a b")),
    "high bytes": Case(GET + b"X: \xc3\xa4\r\n\r\n", headers=one("x", "Ã¤")),
    "every character of a name": Case(
        GET + b"!#$%&'*+-.^_`|~9: a\r\n\r\n", headers=one("!#$%&'*+-.^_`|~9", "a")
    ),
    "a name twice": Case(GET + b"X: a\r\nx: b\r\n\r\n", headers=one("x", "a, b")),
    "cookies": Case(GET + b"Cookie: a=b; c=d\r\n\r\n", headers=one("cookie", "a=b; c=d")),
    "30,000 bytes": Case(
        GET + b"X: " + b"a" * 30_000 + b"\r\n\r\n", headers=one("x", "a" * 30_000)
    ),
    "another protocol in a field": Case(
        get(b"/x").replace(b"Host", b"X: / RTSP/1.0, SOURCE / ICE/1.0\r\nHost"), target="/x"
    ),
    "empty lines before it": Case(b"\r\n\r\n" + get(b"/x"), target="/x"),
    "hop by hop": Case(
        GET + b"Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nX-Other: 2\r\n"
        b"Proxy-Connection: a\r\nProxy-Authorization: b\r\n\r\n",
        headers={"x-mine": None, "keep-alive": None, "x-other": "2", "proxy-connection": None,
                 "proxy-authorization": None, "connection": None},
    ),
    "Connection names what frames": Case(
        HEAD + b"Connection: content-length, host\r\nContent-Length: 2\r\n\r\nhi",
        "POST", body=b"hi", headers=one("host", "a"),
    ),
    "Connection names what we set": Case(
        GET + b"Connection: x-forwarded-for, x-request-id\r\n\r\n",
        headers=one("x-forwarded-for", "127.0.0.1"),
    ),
    "forged": Case(
        GET + b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n"
        b"Forwarded: for=6.6.6.6\r\n\r\n",
        headers={"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http",
                 "x-forwarded-host": "a", "forwarded": None},
    ),
}  # fmt: skip

CONNECTIONS = {
    "close": Case(GET + b"Connection: close\r\n\r\n", stays=False),
    "close among others": Case(GET + b"Connection: x, CLOSE\r\n\r\n", stays=False),
    "keep-alive": Case(GET + b"Connection: keep-alive\r\n\r\n"),
    "HTTP/1.0": Case(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", stays=False),
    "HTTP/1.0 and keep-alive": Case(
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", stays=False
    ),
    "h2c": Case(GET + H2C + b"\r\n", headers={"upgrade": None, "http2-settings": None}),
    "h2c with a body": Case(
        HEAD + H2C + b"Content-Length: 5\r\n\r\nhello", "POST", body=b"hello"
    ),
    "h2c with a body like a request": Case(
        HEAD + H2C + b"Content-Length: %d\r\n\r\n%b" % (len(GOOD), GOOD), "POST", body=GOOD
    ),
    "h2c with chunks": Case(CODED + H2C + b"\r\n" + BODY, "POST", body=b"hello"),
    "h2c with chunks and trailers": Case(
        CODED + H2C + b"\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n", "POST", body=b"hello",
        trailers={"x": "y"},
    ),
    "h2c and close": Case(GET + b"Connection: close, upgrade\r\nUpgrade: h2c\r\n\r\n", stays=False),
    "TLS": Case(
        GET + b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n\r\n", headers=one("upgrade", None)
    ),
    "several protocols": Case(
        GET + b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
        headers=one("upgrade", None),
    ),
    "Upgrade without Connection": Case(
        GET + b"Upgrade: websocket\r\n\r\n", headers=one("upgrade", None)
    ),
    "a switch that is not made": Case(
        GET + SWITCH + b"\r\n", headers={"upgrade": "websocket", "connection": "upgrade"}
    ),
    "a switch with a body": Case(
        HEAD + SWITCH + b"Content-Length: 5\r\n\r\nhello",
        "POST", body=b"hello", headers=one("upgrade", None),
    ),
    "a switch in HTTP/1.0": Case(
        b"GET / HTTP/1.0\r\n" + SWITCH + b"\r\n", headers=one("upgrade", None), stays=False
    ),
}  # fmt: skip

TABLES = (METHODS, TARGETS, HOSTS, BODIES, TRAILERS, FIELDS, CONNECTIONS)
CASES = {name: case for table in TABLES for name, case in table.items()}
WAYS = ("whole", "byte by byte", "behind a good one", "twice", "twice at once")


def test_no_name_hides_another():
    assert len(CASES) == sum(map(len, TABLES)) >= 80


@pytest.mark.parametrize(
    ("name", "way"),
    [
        (name, way)
        for name, case in CASES.items()
        for way in WAYS
        if case.stays or not way.startswith("twice")
    ],
)
def test_allowed_and_forwarded_as_it_was_meant(served, raw, name, way):
    case = CASES[name]
    served.forget()
    client = raw()
    times = 2 if way.startswith("twice") else 1
    data = case.sent * (2 if way == "twice at once" else 1)
    if way == "behind a good one":
        data = GOOD + data
    client.send(data, piece_bytes=max(1, len(data) // 1000) if way == "byte by byte" else 0)
    if way == "behind a good one":
        assert client.answer()[2] == b"ok"
    for number in range(times):
        if number and way == "twice":
            client.send(case.sent)
        status, headers, body = answered(client, is_head=case.method == "HEAD")
        assert (status, body) == (200, b"" if case.method == "HEAD" else b"ok")
        assert headers.get("connection") == (None if case.stays else "close")
    if case.stays:
        client.send(GOOD)
        assert client.answer()[2] == b"ok"
    else:
        assert client.is_at_end()
    goods = [seen for seen in served.seen if seen.target == "/good"]
    assert len(goods) == (way == "behind a good one") + case.stays
    seen = [seen for seen in served.seen if seen.target != "/good"]
    assert len(seen) == times
    for each in seen:
        assert_seen(each, case)


def answered(client, *, is_head):
    """The answer, past a 100 that came because the body was not there yet."""
    answer = client.answer(no_body=is_head)
    return client.answer(no_body=is_head) if answer[0] == 100 else answer


def assert_seen(seen, case):
    assert (seen.method, seen.target, seen.body) == (case.method, case.target, case.body)
    assert seen.trailers == case.trailers
    for name, value in case.headers.items():
        assert seen.header(name) == value, name
    assert re.fullmatch(r"[0-9a-f]{22}", seen.header("x-request-id"))
    assert seen.header("x-forwarded-for") == "127.0.0.1"
