"""What of an upstream's answer is passed on, what is not believed, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import h11
import pytest

ASK = b"GET /scripted HTTP/1.1\r\nHost: a\r\n\r\n"
GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CODED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@dataclass
class Passed:
    """An answer that is passed on whole."""

    sent: bytes
    body: bytes = b"hello"
    status: int = 200
    headers: dict[str, str | None] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    interim: tuple[int, ...] = ()
    ending: str = ""
    asked: bytes = ASK
    is_kept: bool = True
    """The upstream's connection is used again."""


def length(body: bytes, more: bytes = b"") -> bytes:
    return OK + b"Content-Length: %d\r\n%b\r\n%b" % (len(body), more, body)


HEAD = ASK.replace(b"GET", b"HEAD")
LAST = ASK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
GOOD_LAST = LAST.replace(b"scripted", b"good")
OLD = b"GET /scripted HTTP/1.0\r\n\r\n"

PASSED = {
    "length": Passed(length(b"hello")),
    "length 0": Passed(length(b""), b""),
    "chunked": Passed(CODED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"),
    "chunked in capitals": Passed(
        CODED.replace(b"chunked", b"CHUNKED") + b"5\r\nhello\r\n0\r\n\r\n"
    ),
    "trailers": Passed(
        CODED.replace(b"\r\n\r\n", b"\r\nTrailer: X-Sum\r\n\r\n")
        + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nContent-Type: a/b\r\nSet-Cookie: a\r\n\r\n",
        headers={"trailer": "X-Sum"},
        trailers={"x-sum": "1"},
    ),
    "trailers to HTTP/1.0": Passed(
        CODED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        asked=OLD,
        headers={"transfer-encoding": None},
    ),
    "up to the close": Passed(OK + b"\r\nhello", ending="close", is_kept=False),
    "up to the close, HTTP/1.0": Passed(
        b"HTTP/1.0 200 OK\r\n\r\nhello", ending="close", is_kept=False
    ),
    "up to the close to HTTP/1.0": Passed(
        OK + b"\r\nhello", ending="close", asked=OLD, is_kept=False
    ),
    "HTTP/1.0 with a length": Passed(
        length(b"hello").replace(b"1.1", b"1.0"), ending="close", is_kept=False
    ),
    "HTTP/1.0 and keep-alive": Passed(
        length(b"hello", b"Connection: keep-alive\r\n").replace(b"1.1", b"1.0")
    ),
    "no phrase": Passed(length(b"hello").replace(b" OK", b"")),
    "another phrase": Passed(length(b"hello").replace(b"OK", b"Fine \xe4")),
    "status 299": Passed(length(b"hello").replace(b"200", b"299"), status=299),
    "status 599": Passed(length(b"hello").replace(b"200", b"599"), status=599),
    "204": Passed(b"HTTP/1.1 204 No Content\r\n\r\n", b"", 204),
    "204 with a length": Passed(
        b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", b"", 204, {"content-length": None}
    ),
    "304": Passed(
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n", b"", 304,
        {"content-length": "5", "etag": "x"},
    ),
    "HEAD": Passed(
        OK + b"Content-Length: 5\r\n\r\n", b"", asked=HEAD, headers={"content-length": "5"}
    ),
    "HEAD, chunked": Passed(CODED, b"", asked=HEAD),
    "HEAD, no framing": Passed(OK + b"\r\n", b"", asked=HEAD, is_kept=False),
    "early hints": Passed(EARLY + EARLY + length(b"hello"), interim=(103, 103)),
    "processing": Passed(b"HTTP/1.1 102 P\r\n\r\n" + length(b"hello"), interim=(102,)),
    "early hints to HTTP/1.0": Passed(EARLY + length(b"hello"), asked=OLD),
    "100 that was not asked for": Passed(b"HTTP/1.1 100 Continue\r\n\r\n" + length(b"hello")),
    "hop by hop": Passed(
        length(b"hello", b"Connection: x-a\r\nX-A: 1\r\nKeep-Alive: 2\r\nX-B: 3\r\nUpgrade: h2c\r\n"
               b"Proxy-Authenticate: basic\r\n"),
        headers={"connection": None, "x-a": None, "keep-alive": None, "x-b": "3", "upgrade": None,
                 "proxy-authenticate": "basic"},
    ),
    "two cookies": Passed(
        length(b"hello", b"Set-Cookie: a\r\nSet-Cookie: b\r\n"), headers={"set-cookie": "a, b"}
    ),
    "what we set ourselves": Passed(
        length(b"hello", b"X-Served-By: evil\r\nX-Request-Id: evil\r\n"),
        headers={"x-served-by": "stable;1"},
    ),
    "close": Passed(length(b"hello", b"Connection: close\r\n"), is_kept=False),
    "bytes after it": Passed(length(b"hello") + b"more", is_kept=False),
    "an answer after it": Passed(
        length(b"hello") + length(b"smuggled").replace(b"200", b"500"), is_kept=False
    ),
    "bytes after the last chunk": Passed(
        CODED + b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n", is_kept=False
    ),
    "bytes after a close": Passed(
        length(b"hello", b"Connection: close\r\n") + b"more", is_kept=False
    ),
    "a body after 204": Passed(b"HTTP/1.1 204 N\r\n\r\nhello", b"", 204, is_kept=False),
    "a body after 304": Passed(b"HTTP/1.1 304 N\r\n\r\nhello", b"", 304, is_kept=False),
    "a body after HEAD": Passed(length(b"hello"), b"", asked=HEAD, is_kept=False),
    "Connection as a trailer": Passed(
        CODED + b"5\r\nhello\r\n0\r\nConnection: close\r\n\r\n", is_kept=False
    ),
}  # fmt: skip

BAD_GATEWAY = {
    "nothing": (b"", "close"),
    "a reset": (b"", "reset"),
    "half a status line": (b"HTTP/1.1 2", "close"),
    "half a head": (OK + b"Content-Le", "close"),
    "a head without an end": (OK + b"Content-Length: 5\r\n", "reset"),
    "another protocol": (b"220 smtp.example ESMTP\r\n", ""),
    "HTTP/2": (b"\0\0\x12\x04\0\0\0\0\0", ""),
    "version 2.0": (length(b"hello").replace(b"1.1", b"2.0"), ""),
    "version 1.2": (length(b"hello").replace(b"1.1", b"1.2"), ""),
    "ICY": (length(b"hello").replace(b"HTTP/1.1", b"ICY"), ""),
    "status 99": (length(b"hello").replace(b"200", b"99"), ""),
    "status 000": (length(b"hello").replace(b"200", b"000"), ""),
    "status 1000": (length(b"hello").replace(b"200", b"1000"), ""),
    "status in words": (length(b"hello").replace(b"200", b"abc"), ""),
    "length and coding": (OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
    "coding and length": (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", ""),
    "two lengths": (length(b"hello", b"Content-Length: 6\r\n"), ""),
    "two equal lengths": (length(b"hello", b"Content-Length: 5\r\n"), ""),
    "list of lengths": (OK + b"Content-Length: 5, 5\r\n\r\nhello", ""),
    "negative length": (OK + b"Content-Length: -5\r\n\r\nhello", ""),
    "length of 20 zeros and a digit": (
        OK + b"Content-Length: %b5\r\n\r\nhello" % (b"0" * 20),
        "",
    ),
    "empty length": (OK + b"Content-Length:\r\n\r\nhello", ""),
    "gzip and chunked": (CODED.replace(b"chunked", b"gzip, chunked"), ""),
    "gzip": (CODED.replace(b"chunked", b"gzip"), "close"),
    "chunked twice": (CODED.replace(b"chunked", b"chunked, chunked"), ""),
    "chunked in HTTP/1.0": (CODED.replace(b"1.1", b"1.0"), ""),
    "folded line": (length(b"hello", b"X: a\r\n b\r\n"), ""),
    "bare line feed": (length(b"hello", b"X: a\nY: b\r\n"), ""),
    "bare carriage return": (length(b"hello", b"X: a\rSet-Cookie: b\r\n"), ""),
    "line feeds only": (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", ""),
    "NUL": (length(b"hello", b"X: \0\r\n"), ""),
    "space before the colon": (OK + b"Content-Length : 5\r\n\r\nhello", ""),
    "no colon": (length(b"hello", b"X\r\n"), ""),
    "101": (b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", ""),
    "101 without a protocol": (b"HTTP/1.1 101 S\r\n\r\n", ""),
    "nine interim answers": (EARLY * 9 + length(b"hello"), ""),
    "interim answers without an end": (b"HTTP/1.1 100 C\r\n\r\n" * 3000, ""),
    "a body after an interim answer": (b"HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\nhello", ""),
    "an interim answer whose body llhttp reads": (
        b"HTTP/1.1 199 X\r\nContent-Length: 2\r\n\r\nhe" + length(b"hello"),
        "",
    ),
    "an interim answer with chunks": (
        b"HTTP/1.1 103 E\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + length(b"hello"),
        "",
    ),
    "a long head": (OK + b"X: " + b"a" * 100_000, ""),
    "many fields": (OK + b"X: aaaaaaaa\r\n" * 10_000, ""),
}

CUT = {
    "short of its length": (length(b"hello" * 10)[:-20], "close"),
    "short of its length, by a reset": (length(b"hello" * 10)[:-20], "reset"),
    "without a last chunk": (CODED + b"5\r\nhello\r\n", "close"),
    "within a chunk": (CODED + b"50\r\nhello", "close"),
    "within the trailers": (CODED + b"5\r\nhello\r\n0\r\nX: a\r\n", "close"),
    "with a bad chunk": (CODED + b"5\r\nhello\r\nzz\r\n", ""),
    "with data longer than its chunk": (CODED + b"3\r\nhello\r\n0\r\n\r\n", ""),
    "with a bare line feed": (CODED + b"5\r\nhello\n0\r\n\r\n", ""),
    "with a length as a trailer": (CODED + b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n", ""),
    "with a long extension": (CODED + b"5\r\nhello\r\n1;" + b"x" * 400_000, ""),
    "with many extensions": (CODED + (b"1;%b\r\nx\r\n" % (b"a" * 200)) * 3000, ""),
    "with a long extension in one read": (
        CODED + b"5;" + b"x" * 80_000 + b"\r\nhello\r\n0\r\n\r\n",
        "",
    ),
    "with many trailers": (CODED + b"5\r\nhello\r\n0\r\n" + b"X: aaaaaaaa\r\n" * 30_000, ""),
    "up to a reset": (OK + b"\r\nhello", "reset"),
}
SPLITS = {"whole": 0, "byte by byte": 1}


def play(served, script_type, data, ending, split):
    served.forget()
    pieces = max(1, len(data) // 500) if SPLITS[split] else 0
    served.script = script_type(data, ending, pieces)


def read(
    asked: bytes, data: bytes, *, ended: bool
) -> tuple[list[int], h11.Response | None, bytes, dict[str, str] | None]:
    """Interim statuses, head, body and trailers (None: it has no end) as h11 reads an answer."""
    connection = h11.Connection(h11.CLIENT, 1_000_000)
    method = asked.split(b" ")[0]
    connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    if ended:
        connection.receive_data(b"")
    interim, head, body = [], None, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.InformationalResponse):
                interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return interim, head, body, {k.decode(): v.decode() for k, v in event.headers}
            else:
                return interim, head, body, None
    except h11.RemoteProtocolError:
        assert ended, "only the end may be wrong"
        return interim, head, body, None


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", PASSED)
def test_passed_on_as_it_was_meant(served, raw, script, name, split):
    case = PASSED[name]
    play(served, script, case.sent, case.ending, split)
    client = raw()
    client.send(case.asked)
    if case.asked is not OLD:
        served.settle()
        client.send(GOOD_LAST)
    got = client.rest()
    first, found, second = got.partition(b"HTTP/1.1 200 \r\ncontent-length: 2\r\n")
    assert bool(found) is (case.asked is not OLD)
    assert second.endswith(b"\r\n\r\nok") or not found
    interim, head, body, trailers = read(case.asked, first, ended=not found)
    assert (tuple(interim), head.status_code, body, trailers) == (
        case.interim, case.status, case.body, case.trailers
    )  # fmt: skip
    values: dict[str, list[str]] = {}
    for key, value in head.headers:
        values.setdefault(key.decode(), []).append(value.decode("latin-1"))
    for key, value in case.headers.items():
        assert (", ".join(values[key]) if key in values else None) == value, key
    if found:
        assert served.was_reused() is case.is_kept


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", BAD_GATEWAY)
def test_a_bad_gateway(served, raw, script, name, split):
    data, ending = BAD_GATEWAY[name]
    play(served, script, data, ending, split)
    client = raw()
    client.send(ASK)
    status, headers, body = client.answer()
    while status == 103:
        status, headers, body = client.answer()
    assert status == 502
    assert b'"error"' in body
    assert headers["x-request-id"]
    client.send(GOOD)
    assert client.answer()[2] == b"ok"
    assert not served.was_reused()


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("asked", [LAST, OLD], ids=["HTTP 1.1", "HTTP 1.0"])
@pytest.mark.parametrize("name", CUT)
def test_cut_short_and_visibly_so(served, raw, script, name, asked, split):
    data, ending = CUT[name]
    play(served, script, data, ending, split)
    client = raw()
    client.send(asked)
    got = client.rest()
    if b" 502 " in got[:20]:
        pass  # nothing had been passed on when the fault came
    elif not client.was_reset:
        assert read(asked, got, ended=True)[3] is None, "it looks whole"
        assert asked is not OLD, "an end of the connection is the end of the answer"
    another = raw()
    another.send(GOOD)
    assert another.answer()[2] == b"ok"
    assert not served.was_reused()
