"""Messages like the one before them on the same connection, read by comparing.

Clients and servers repeat themselves: from one message to the next only a length, a date, a user or
a trace changes. The first message of a kind is read by llhttp. Where it was plain (whole in one
read, HTTP/1.1, framed by Content-Length, nothing to change but what we add), its lines are kept,
and the next one is held against them: what is the same is known to be good, and what differs is
checked on its own. To say None is always right here, only slower. Tests hold both ways to the same
results.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gateway.event_stream import is_event_stream
from gateway.exchange import Exchange
from gateway.forwarding import Forwarding
from gateway.framing import (
    MAX_RESPONSE_HEAD_BYTES,
    REQUEST_DROPPED,
    RESPONSE_DROPPED,
    VALUE_BYTES,
    is_request_id,
)

if TYPE_CHECKING:
    from gateway.client_rules import ClientRules
    from gateway.exchange import ClientSide

MAX_PLAIN_HEAD_BYTES: Final = 8 * 1024
"""Longer heads are not kept: one is, for every open connection."""

MAX_LENGTH_DIGITS: Final = 9
"""Of a Content-Length; a body that comes in one read is far shorter."""

MAX_MISSES: Final = 16
"""Messages in a row unlike the one before, after which a connection is no longer compared."""

_FIELDS: Final = rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r\n)*\r\n"
"""RFC 9110, 5.1 and 5.5: no fold, no space before the colon, no control character."""

_REQUEST_HEAD: Final = re.compile(rb"[A-Z]+ /[!-~\x80-\xff]* HTTP/1\.1\r\n" + _FIELDS)
"""Its first line goes on as it came; llhttp takes more spaces in it than RFC 9112 does."""

_ANSWER_HEAD: Final = re.compile(rb"HTTP/1\.1 [2-5][0-9]{2}(?: [^\r\n]*)?\r\n" + _FIELDS)

_METHODS: Final = (b"GET /", b"POST /", b"PUT /", b"DELETE /", b"PATCH /", b"OPTIONS /")
_KEEP_ALIVE: Final = frozenset({b"keep-alive", b"Keep-Alive"})
_ADDED_BY_US: Final = frozenset({b"connection", b"x-request-id"})
_REQUEST_CARE: Final = REQUEST_DROPPED - _ADDED_BY_US
_ANSWER_CARE: Final = RESPONSE_DROPPED - {b"connection"}
_FIXED: Final = frozenset({b"", b"host", b"connection", b"content-type", b"content-encoding"})
"""Change rarely, and mean something (b"" is the first line): where one differs, llhttp reads."""


class _Head:
    """The head read last, as the pieces that stay the same and the values between them."""

    __slots__ = (
        "_changing",
        "_max_bytes",
        "_rest",
        "end",
        "lines",
        "misses",
        "names",
    )

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        """A head that a changed value makes longer is measured by whoever reads in full."""
        self.lines: list[bytes] = []
        """Empty while nothing was learnt."""
        self.names: list[bytes] = []
        """Of each line, in lower case; of the first line empty."""
        self.misses = 0
        self.end = 0
        """Where the body begins in what was read last."""
        self._changing: list[tuple[bytes, bytes, bytes]] = []
        """Of each line whose value changes: its name in lower case, what stands before the value
        since the one before, and the same with the value that was learnt, to the end of its line.
        """
        self._rest = b""
        """What stands after the last of these values."""

    def keep(self, head: bytes, often_changing: frozenset[bytes]) -> dict[bytes, bytes] | None:
        """Learn a head that llhttp accepted; values by name, None where a name stands twice."""
        lines = head.split(b"\r\n")
        names = [b"", *(line.partition(b":")[0].lower() for line in lines[1:])]
        changing = set(often_changing)
        if names == self.names:  # the same client: what differs now will differ again
            pairs = zip(names, lines, self.lines, strict=True)
            changing |= {name for name, line, before in pairs if line != before} - _FIXED
            changing |= {name for name, _, _ in self._changing}
        self.lines, self.names = lines, names
        self.misses += 1
        self._cut(changing)
        headers = {
            name: line.partition(b":")[2].strip()
            for name, line in zip(names[1:], lines[1:], strict=True)
        }
        return headers if len(headers) == len(lines) - 1 else None

    def _cut(self, changing: set[bytes]) -> None:
        """Cut the lines where the values of changing ones begin and end."""
        self._changing = []
        piece = self.lines[0]
        for name, line in zip(self.names[1:], self.lines[1:], strict=True):
            if name in changing:
                begin = len(name) + 1
                before, whole = b"%b\r\n%b" % (piece, line[:begin]), b"%b\r\n%b\r\n" % (piece, line)
                self._changing.append((name, before, whole))
                piece = b""
            else:
                piece = b"%b\r\n%b" % (piece, line)
        self._rest = piece + b"\r\n\r\n"

    def forget(self) -> None:
        """Nothing is known; and after too many messages unlike each other, nothing will be."""
        self.misses += 1
        self.lines = []
        self.names = []

    def differences(self, data: bytes) -> dict[bytes, bytes] | None:
        """New values by name, and `end`; None where anything else differs, or is bad."""
        different: dict[bytes, bytes] = {}
        at = 0
        for name, piece, line in self._changing:
            end = at + len(line)
            if data[at:end] == line:  # its value is the same
                at = end - 2
                continue
            begin = at + len(piece)
            if data[at:begin] != piece:
                return None
            at = data.find(b"\r\n", begin, self._max_bytes)
            if at < 0:
                return None
            value = data[begin:at]
            if value.translate(None, VALUE_BYTES):
                return None
            different[name] = value.strip()
        rest = self._rest
        end = at + len(rest)
        if data[at:end] != rest:
            return None
        self.end = end
        return different


class RepeatedRequest:
    """The last plain request of one client connection."""

    __slots__ = (
        "_dropped",
        "_forwarded",
        "_forwarding",
        "_headers",
        "_known",
        "_length",
        "_method",
        "_target",
    )

    def __init__(self, max_headers_bytes: int) -> None:
        self._known = _Head(max_headers_bytes)
        self._headers: dict[bytes, bytes] = {}
        self._dropped: list[int] = []
        """Lines that are not passed on as they came, last first."""
        self._method = self._target = self._forwarded = b""
        self._forwarding: Forwarding | None = None
        """Where what is said about the client depends on what this request itself says."""
        self._length = 0

    def learn(
        self, data: bytes, exchange: Exchange, rules: ClientRules, forwarding: Forwarding
    ) -> None:
        """`data` was read whole as the request of `exchange`, and nothing else."""
        known = self._known
        head, found, _ = data.partition(b"\r\n\r\n")
        if known.misses > MAX_MISSES or not found or not _is_plain(head, exchange):
            known.forget()
            return
        headers = known.keep(head, rules.special - _FIXED | _OFTEN_CHANGING)
        if (
            headers is None
            or not _REQUEST_CARE.isdisjoint(headers)
            or headers.get(b"connection", b"keep-alive") not in _KEEP_ALIVE
        ):
            known.forget()
            return
        self._headers, self._method, self._target = headers, exchange.method, exchange.target
        self._length = exchange.request_bytes
        self._forwarded = exchange.forwarded
        self._forwarding = forwarding if forwarding.depends_on(headers) else None
        dropped = [index for index, name in enumerate(known.names) if name in rules.dropped]
        self._dropped = dropped[::-1]

    def read(self, client: ClientSide, data: bytes, read_ns: int) -> Exchange | None:
        """The exchange that `data` begins, if it is one whole request like the last."""
        known = self._known
        if not known.lines:
            return None
        values = known.differences(data)
        if values is None:
            return None
        end = known.end
        body = data[end:]
        if not self._is_whole(values, body):
            return None
        known.misses = 0
        exchange = Exchange(client, self._target, read_ns)
        exchange.raw_head = data[: end - 2]
        if self._dropped:
            exchange.raw_head = self._without_dropped(exchange.raw_head)
        exchange.method = self._method
        exchange.headers = self._headers | values if values else self._headers
        forwarding = self._forwarding
        exchange.forwarded = (
            self._forwarded if forwarding is None else forwarding.lines(exchange.headers)
        )
        exchange.parts = _NO_PARTS
        exchange.head_only = exchange.http10 = exchange.close = False
        exchange.expects_continue = exchange.chunked = exchange.wants_body = False
        exchange.complete = True
        exchange.kept = [body] if body else []
        exchange.pending = [body] if body else []
        exchange.kept_bytes = exchange.request_bytes = len(body)
        return exchange

    def _is_whole(self, values: dict[bytes, bytes], body: bytes) -> bool:
        """The body is as long as the head says, and a new request id is one."""
        length = values.get(b"content-length")
        if length is None:
            if len(body) != self._length:
                return False
        elif not _is_length(length, len(body)):
            return False
        return b"x-request-id" not in values or is_request_id(values[b"x-request-id"])

    def _without_dropped(self, head: bytes) -> bytes:
        """The head as it is passed on."""
        lines = head.split(b"\r\n")
        for index in self._dropped:
            del lines[index]
        return b"\r\n".join(lines)


_NO_PARTS: Final[list[bytes]] = []
"""Never added to: a whole request has no more headers to come."""

_OFTEN_CHANGING: Final = frozenset(
    {b"content-length", b"x-request-id", b"traceparent", b"tracestate"}
)


def _is_plain(head: bytes, exchange: Exchange) -> bool:
    return (
        len(head) <= MAX_PLAIN_HEAD_BYTES
        and exchange.complete
        and not (exchange.close or exchange.http10 or exchange.chunked or exchange.head_only)
        and head.startswith(_METHODS)
        and _REQUEST_HEAD.fullmatch(head + b"\r\n\r\n") is not None
    )


class RepeatedAnswer:
    """The last plain answer of one upstream connection."""

    __slots__ = (
        "_head",
        "_known",
        "_learnt_length",
        "_length",
        "content_encoding",
        "content_type",
        "fields",
        "status",
        "status_line",
    )

    def __init__(self) -> None:
        self._known = _Head(MAX_RESPONSE_HEAD_BYTES)
        self._head = b""
        self._learnt_length = b""
        self._length = 0
        self.status = 0
        self.status_line = b""
        self.content_type = b""
        self.content_encoding = b""
        self.fields = b""
        """Field lines as they are passed on, of the answer read last."""

    def learn(self, data: bytes, status: int, status_line: bytes) -> None:
        """`data` was read as one whole answer that is framed by Content-Length."""
        known = self._known
        self._head = b""
        head, found, body = data.partition(b"\r\n\r\n")
        if known.misses > MAX_MISSES or not found or len(head) > MAX_PLAIN_HEAD_BYTES:
            known.forget()
            return
        if _ANSWER_HEAD.fullmatch(head + b"\r\n\r\n") is None:
            known.forget()
            return
        headers = known.keep(head, _ANSWER_CHANGING)
        if (
            headers is None
            or not _ANSWER_CARE.isdisjoint(headers)
            or headers.get(b"content-length") != b"%d" % len(body)
            or headers.get(b"connection", b"keep-alive") not in _KEEP_ALIVE
            or is_event_stream(headers.get(b"content-type", b""))
        ):
            known.forget()
            return
        self.status, self.status_line = status, status_line
        self.content_type = headers.get(b"content-type", b"")
        self.content_encoding = headers.get(b"content-encoding", b"")
        self._learnt_length = headers[b"content-length"]
        self._remember(data[: len(head) + 4], len(body))

    def body_of(self, data: bytes) -> bytes | None:
        """The body, if `data` is one whole answer like the last; `fields` are then its own."""
        known, head = self._known, self._head
        if not known.lines:
            return None
        if data.startswith(head):  # the date changes once a second
            body = data[len(head) :]
            return body if len(body) == self._length else None
        values = known.differences(data)
        if values is None:
            return None
        body = data[known.end :]
        if not _is_length(values.get(b"content-length", self._learnt_length), len(body)):
            return None
        known.misses = 0
        self._remember(data[: known.end], len(body))
        return body

    def _remember(self, head: bytes, length: int) -> None:
        """`head` is whole, with the empty line at its end."""
        self._head, self._length = head, length
        fields = head[len(self._known.lines[0]) + 2 : -2]
        if b"connection" in self._known.names:
            pairs = zip(self._known.names[1:], fields.split(b"\r\n"), strict=False)
            fields = b"".join(line + b"\r\n" for name, line in pairs if name != b"connection")
        self.fields = fields


def _is_length(text: bytes, length: int) -> bool:
    return text.isdigit() and len(text) <= MAX_LENGTH_DIGITS and int(text) == length


_ANSWER_CHANGING: Final = frozenset({b"content-length", b"date"})


def parts_of(raw_head: bytes) -> list[bytes]:
    """The field lines after a request line, flat: name, colon, value, line end."""
    parts: list[bytes] = []
    for line in raw_head.split(b"\r\n")[1:-1]:
        name, _, value = line.partition(b":")
        parts += (name, b": ", value.strip(), b"\r\n")
    return parts
