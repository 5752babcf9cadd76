"""What may pass, and how it is framed: the rules that llhttp leaves to its user.

llhttp (RFC 9112) already refuses obs-fold, bare CR or LF, NUL, space before a colon, several or odd
Content-Lengths, Content-Length beside Transfer-Encoding and bad chunk sizes. What clients may send
in length is in `gateway.settings.LimitSettings`.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from gateway.exchange import Exchange

MAX_RESPONSE_HEAD_BYTES: Final = 64 * 1024
"""Of an upstream's header block: cookies and policies make these longer than requests'."""

MAX_LENGTH_DIGITS: Final = 19
"""Of a Content-Length: as 2 ** 63 has. Some servers do not read longer ones, others wrongly."""

MAX_REQUEST_ID_BYTES: Final = 128
"""A longer `x-request-id` is replaced: it is written to every log on the way."""

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
"""RFC 9110, 7.6.1: they speak of one connection and stay on it. `Trailer` speaks of the message."""

REQUEST_DROPPED: Final = HOP_BY_HOP | {b"expect", b"x-request-id"}
REQUEST_SPECIAL: Final = REQUEST_DROPPED | {
    b"host",
    b"content-length",
    b"content-type",
    b"content-encoding",
}
RESPONSE_DROPPED: Final = HOP_BY_HOP - {b"proxy-authenticate"} | {b"x-request-id", b"x-served-by"}
RESPONSE_SPECIAL: Final = RESPONSE_DROPPED | {
    b"content-length",
    b"content-type",
    b"content-encoding",
}

NEVER_TRAILERS: Final = (
    REQUEST_SPECIAL
    | RESPONSE_SPECIAL
    | {
        # modifiers of the request
        b"cache-control", b"max-forwards", b"pragma", b"range", b"if-match", b"if-none-match",
        b"if-modified-since", b"if-unmodified-since", b"if-range",
        # who asks, and for whom
        b"authorization", b"cookie", b"set-cookie", b"www-authenticate", b"forwarded", b"via",
        b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto",
        # control of the answer, and how to read it
        b"age", b"expires", b"date", b"location", b"retry-after", b"vary", b"warning",
        b"content-range", b"trailer",
    }
)  # fmt: skip
"""RFC 9110, 6.5.1: fields that a recipient must know before the body, or that frame or route it."""

PROTECTED: Final = frozenset({b"host", b"content-length", b"content-type", b"content-encoding"})
"""Naming one of these in Connection must not remove it: that would change the framing."""

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,%d}" % MAX_REQUEST_ID_BYTES)


class Refused(Exception):
    """The client's message is not one we pass on: it gets `status`, and its connection closes."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def joined(name: bytes, before: bytes, value: bytes) -> bytes:
    """Several header lines of one name as one value; a list never passes for a single value."""
    return before + (b"; " if name == b"cookie" else b", ") + value


def check_request(exchange: Exchange, method: bytes, version: str, *, keep_alive: bool) -> None:
    """Check a whole request head, and set on `exchange` how its body is framed.

    Raises:
        Refused: with the status to answer; nothing of it may be forwarded.
    """
    headers = exchange.headers
    exchange.method = method
    exchange.head_only = method == b"HEAD"
    exchange.http10 = http10 = version != "1.1"
    if http10 and version != "1.0":
        raise Refused(505, f"HTTP version {version} is not spoken here; expected 1.1 or 1.0")
    if method == b"CONNECT":
        raise Refused(400, "CONNECT is not supported: this is not a forward proxy")
    exchange.close = http10 or not keep_alive
    exchange.expects_continue = exchange.chunked = False
    if headers.keys() & _NEEDS_CARE:
        _check_with_care(exchange)
    elif b"content-length" in headers:
        exchange.wants_body = _has_length(headers[b"content-length"])
    else:
        exchange.wants_body = False
    host = headers.get(b"host")
    if host is None:
        if not http10:
            raise Refused(400, "no Host; HTTP/1.1 needs exactly one")
    elif _HOST.fullmatch(host) is None:
        raise Refused(400, f"Host is {_shown(host)}; expected exactly one host")
    if exchange.target[0] != _SLASH:
        _to_origin_form(exchange)
    if b"#" in exchange.target:
        raise Refused(400, f"request target is {_shown(exchange.target)}; expected no fragment")


_NEEDS_CARE: Final = frozenset({b"transfer-encoding", b"expect", b"connection", b"te"})
_SLASH: Final = 0x2F

_HOST: Final = re.compile(
    rb"(?:[!$&'()*+;=\-._~0-9A-Za-z]|%[0-9A-Fa-f]{2}){1,255}(?::[0-9]{0,5})?"
    rb"|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{0,5})?"
)
"""RFC 9110, 7.2: a name or an address, and a port. No comma: several Hosts are joined by one."""

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110, 5.6.2."""

_PROTOCOL: Final = re.compile(b"%b(?:/%b)?" % (_TOKEN.pattern, _TOKEN.pattern))
"""One name of a protocol, perhaps with its version (RFC 9110, 7.8)."""

_NEVER_SWITCHED_TO: Final = frozenset({b"h2c", b"http", b"tls"})
"""HTTP in a tunnel would pass requests that nobody checked, assigned or recorded; TLS would hide
them."""


def _check_with_care(exchange: Exchange) -> None:
    headers = exchange.headers
    coding = headers.get(b"transfer-encoding")
    exchange.chunked = coding is not None
    if coding is not None:
        if exchange.http10:
            raise Refused(400, "Transfer-Encoding in an HTTP/1.0 request")
        if coding.lower() != b"chunked":
            raise Refused(400, f"Transfer-Encoding is {_shown(coding)}; expected exactly chunked")
    exchange.wants_body = exchange.chunked or _has_length(headers.get(b"content-length", b""))
    if b"expect" in headers:
        if headers[b"expect"].lower() != b"100-continue":
            raise Refused(417, f"Expect is {_shown(headers[b'expect'])}; expected 100-continue")
        exchange.expects_continue = not exchange.http10
    if b"connection" in headers:
        _obey_connection(exchange, headers[b"connection"])
    if b"te" in headers and b"trailers" in _listed(headers[b"te"]):
        # Trailers are passed on, so the upstream may know it (RFC 9110, 10.1.4).
        exchange.parts += (b"te", b": ", b"trailers", b"\r\n", b"connection", b": ", b"te", b"\r\n")


def _has_length(length: bytes) -> bool:
    """Whether this Content-Length, of which llhttp takes any number of zeros, is above 0."""
    if len(length) > MAX_LENGTH_DIGITS:
        raise Refused(400, f"Content-Length has {len(length)} digits; expected a number of bytes")
    return length.strip(b"0") != b""


def _obey_connection(exchange: Exchange, connection: bytes) -> None:
    drop_named(exchange.parts, connection)
    protocol = exchange.headers.get(b"upgrade", b"")
    if (
        b"upgrade" in _listed(connection)
        and not (exchange.close or exchange.wants_body)
        and _PROTOCOL.fullmatch(protocol) is not None
        and protocol.lower().partition(b"/")[0] not in _NEVER_SWITCHED_TO
    ):
        exchange.upgrade = protocol


def _listed(value: bytes) -> frozenset[bytes]:
    return frozenset(item.strip(b" \t").lower() for item in value.split(b","))


def _to_origin_form(exchange: Exchange) -> None:
    """Take `http://host/path` apart (RFC 9112, 3.2.2): its authority stands over Host."""
    target = exchange.target
    if target == b"*" and exchange.method == b"OPTIONS":
        return
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        raise Refused(400, f"request target is {_shown(target)}; expected a path")
    cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    authority, path = rest[:cut], rest[cut:]
    if _HOST.fullmatch(authority) is None:
        raise Refused(400, f"request target is {_shown(target)}; expected a host in it")
    if not path and exchange.method == b"OPTIONS":
        path = b"*"  # RFC 9112, 3.2.4: what was asked is the server itself
    elif not path.startswith(b"/"):
        path = b"/" + path
    exchange.target = path
    exchange.headers[b"host"] = authority
    remove(exchange.parts, frozenset({b"host"}))
    exchange.parts[:0] = (b"Host", b": ", authority, b"\r\n")


def drop_named(parts: list[bytes], connection: bytes) -> None:
    """Remove the headers that `Connection` names, but for those that frame the message."""
    if connection in _PLAIN:
        return
    named = _listed(connection) - PROTECTED
    if not named <= _OPTIONS:
        remove(parts, named)


_PLAIN: Final = frozenset({b"keep-alive", b"Keep-Alive", b"close", b"Close"})
"""What Connection nearly always is."""

_OPTIONS: Final = frozenset({b"close", b"keep-alive", b"upgrade", b"te", b"http2-settings", b""})
"""Options that name no header, or one that is dropped anyway."""


def remove(parts: list[bytes], names: frozenset[bytes]) -> None:
    """Take header lines out of a flat list of name, colon, value, line end."""
    for index in range(len(parts) - 4, -1, -4):
        if parts[index].lower() in names:
            del parts[index : index + 4]


MAX_SPELT_DASHES: Final = 6
"""Of a name that is spelt in all ways, of which each dash doubles the number."""


def spellings(name: bytes) -> frozenset[bytes]:
    """The name, and what a CGI or WSGI server takes for it: there `_` is as good as `-`."""
    first, *rest = re.split(b"[-_]", name)
    if len(rest) > MAX_SPELT_DASHES:
        return frozenset({name, name.replace(b"-", b"_")})
    made = [first]
    for word in rest:
        made = [begun + dash + word for begun in made for dash in (b"-", b"_")]
    return frozenset(made)


def without(lines: bytes, names: frozenset[bytes]) -> bytes:
    """Complete field lines, but for those of these names."""
    if not lines or not names:
        return lines
    kept = [line for line in lines.split(b"\r\n")[:-1] if _name_of(line) not in names]
    return b"".join(line + b"\r\n" for line in kept)


def _name_of(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()


def is_http(raw: bytes, method: bytes, target: bytes, *, is_at_start: bool) -> bool:
    """Whether a request line names HTTP: llhttp takes RTSP and ICE too, and does not say which.

    `raw` holds the request line, and perhaps others before and after it. `is_at_start`: it begins
    with this line, or with the rest of its method. Else the answer is no wherever it holds the same
    line with another protocol: which of them is meant cannot be told.
    """
    if is_at_start and raw.startswith(b"%b %b HTTP/" % (method, target)):
        return True
    if b" RTSP/" not in raw and b" ICE/" not in raw:
        return True
    line = b" *%b +(?:RTSP|ICE)/" % re.escape(target)
    if is_at_start:
        return re.match(rb"[\r\n]*[A-Z_-]*" + line, raw) is None
    return re.search(re.escape(method) + line, raw) is None


def is_token(value: bytes) -> bool:
    """Whether a value can stand in a parameter without quotes (RFC 9110, 5.6.2)."""
    return _TOKEN.fullmatch(value) is not None


def is_request_id(value: bytes) -> bool:
    """Whether a client's own id can go on as it came: 1 to 128 printable characters."""
    return _REQUEST_ID.fullmatch(value) is not None


def chunk(data: bytes) -> bytes:
    """One chunk. Never empty: an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: bytes) -> bytes:
    """The end of a chunked body. `trailers` are complete lines."""
    return b"0\r\n%b\r\n" % trailers


CHUNK_FRAMING_BYTES: Final = 20
"""What a chunk needs besides its data: 16 digits and two line ends. More is extensions."""

_PHRASES: Final = {status.value: status.phrase.encode() for status in HTTPStatus}

STATUS_LINES: Final = tuple(
    b"HTTP/1.1 %d %b\r\n" % (code, _PHRASES.get(code, b"")) for code in range(1000)
)
"""With the usual phrases."""

VALUE_BYTES: Final = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
"""What may stand in a field line, and in a phrase."""


def status_line(status: int, phrase: bytes) -> bytes:
    """With the upstream's own phrase, which people read; the usual one where it cannot be one."""
    if phrase.translate(None, VALUE_BYTES):
        return STATUS_LINES[status]
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase)


def has_no_body(status: int) -> bool:
    """Whether an answer of this status ends with its head, whatever that says (RFC 9112, 6.3)."""
    return status in (204, 304)


def cookie_value(header: bytes, name: bytes) -> bytes | None:
    """The first cookie of that name, quotes removed."""
    for pair in header.split(b";"):
        key, found, value = pair.partition(b"=")
        if found and key.strip() == name:
            return value.strip().strip(b'"')
    return None


def _shown(value: bytes) -> str:
    """A value as it may stand in an answer: short, and only what can be printed."""
    return repr(value[:64].decode("latin-1"))
