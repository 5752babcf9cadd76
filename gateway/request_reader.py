"""Reads one request after the other off a client connection, within bounds."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from gateway.exchange import Exchange
from gateway.framing import (
    CHUNK_FRAMING_BYTES,
    NEVER_TRAILERS,
    Refused,
    check_request,
    is_http,
    joined,
)

if TYPE_CHECKING:
    from gateway.flow import Flow
    from gateway.forwarding import Forwarding


MAX_PIPELINED: Final = 64
"""Requests queued on one connection. Past it the rest is dropped and the connection closes."""

MAX_PENDING_BYTES: Final = 64 * 1024
"""Of a body that no upstream takes yet, before the client is no longer read."""

MAX_UNCUT_BYTES: Final = 4096
"""Of a read that is parsed at once. Where it holds a head, what frames the body behind that is not
counted, so the bound of framing may be passed by this much."""

LINE_BYTES: Final = 32
"""Of a request line, beside its target: the longest method, the version, spaces, the line end."""

_EMPTY_LINE: Final = b"\r\n\r\n"
"""Ends a head, and a chunked body."""

_TOO_MUCH_FRAMING: Final = "what frames the body is longer than a header block may be"


class RequestReader(asyncio.Protocol):
    """What llhttp reports of a client's requests; the other half of `Downstream`."""

    __slots__ = (
        "_discarding",
        "_forwarding",
        "_framing_bytes",
        "_head_bytes",
        "_held",
        "_in_body",
        "_is_at_start",
        "_is_past_head",
        "_measures_heads",
        "_parser",
        "_raw",
        "_receiving",
        "_rules",
        "_skips_head",
        "current",
        "flow",
        "queue",
        "read_ns",
    )

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self._rules = flow.rules
        self._forwarding: Forwarding
        """What upstreams are told about this client; known once it is connected."""
        self.current: Exchange | None = None
        """The exchange whose answer is the next to go out."""
        self.queue: deque[Exchange] = deque()
        """Those after it, in order."""
        self.read_ns = 0
        """When the last bytes came."""
        self._parser = HttpRequestParser(self)
        self._receiving: Exchange | None = None
        """The exchange whose request is being read; often the current one."""
        self._in_body = False
        self._head_bytes = 0
        self._raw = b""
        """What is being read, with what came before of a head that is not whole."""
        self._is_at_start = False
        """`_raw` begins with the request being read."""
        self._framing_bytes = 0
        """Of a chunked body, what is neither data nor the least that frames it."""
        self._is_past_head = False
        """Framing is counted: the body is chunked, and its head was read."""
        self._skips_head = False
        """llhttp is fed a head that only says how the body to come is framed."""
        self._held: bytes | None = None
        """What follows a request to switch protocols: whose it is, the answer will say."""
        self._measures_heads = False
        """Once as many bytes came at a time as a head may have; before, it cannot be too long."""
        self._discarding = False
        """Nothing that still comes is looked at: the connection ends."""

    def refuse(self, status: int, message: str) -> None:
        """The client broke the rules, or a bound."""
        raise NotImplementedError

    def _feed(self, data: bytes) -> None:
        if len(data) <= MAX_UNCUT_BYTES and b" RTSP/" not in data and b" ICE/" not in data:
            self._feed_piece(data)
        else:
            begin = 0
            while begin < len(data) and not self._discarding:
                end = self._end_of_piece(data, begin)
                self._feed_piece(data[begin:end])
                begin = end
        if self._head_bytes > self._rules.max_headers_bytes and not (
            self._in_body or self._discarding
        ):
            self._check_unfinished()

    def _check_unfinished(self) -> None:
        """Refuse a head once it is too long wherever it may end. Its request line has a bound."""
        bound, exchange = self._rules.max_headers_bytes, self._receiving
        line_bytes = 0 if exchange is None else len(exchange.target) + LINE_BYTES
        if self._head_bytes > bound + line_bytes:
            self.refuse(431, f"header block is longer than {bound} bytes")

    def _end_of_piece(self, data: bytes, begin: int) -> int:
        """Where the head or the body that is read at `begin` ends in `data`, at the latest.

        llhttp does not say where a head ends, so it is fed none together with what follows it.
        """
        exchange = self._receiving
        if self._held is not None:
            return len(data)
        if exchange is not None and self._in_body and exchange.route is not None:
            length = int(exchange.headers.get(b"content-length", b"0"))
            if length > exchange.request_bytes:
                return min(begin + length - exchange.request_bytes, len(data))
        end = data.find(_EMPTY_LINE, begin)
        return len(data) if end < 0 else end + len(_EMPTY_LINE)

    def _feed_piece(self, data: bytes) -> None:
        if self._held is not None:
            self._held += data  # one read at most: there are no more until the answer says whose
            return
        counted = self._receiving if self._is_past_head else None
        self._framing_bytes += len(data)
        self._keep_raw(data)
        rest = data
        while rest:
            try:
                self._parser.feed_data(rest)
            except HttpParserUpgrade as upgrade:
                rest = self._after_upgrade(rest[upgrade.args[0] :])
                continue
            except HttpParserCallbackError as failure:
                cause = failure.__context__
                if not isinstance(cause, Refused):
                    raise
                self.refuse(cause.status, cause.message)
                return
            except HttpParserError as failure:
                if not self._discarding:
                    self.refuse(400, f"malformed request: {failure}")
                return
            break
        if self._in_body or self._receiving is None:
            self._raw = b""
        self._check_framing(counted)

    def _check_framing(self, counted: Exchange | None) -> None:
        """`counted`: whose body a piece began with; of another's, its framing is counted later."""
        if counted is None or self._receiving is not counted:
            self._framing_bytes = 0
        elif self._framing_bytes > self._rules.max_headers_bytes:
            self.refuse(431, _TOO_MUCH_FRAMING)

    def _keep_raw(self, data: bytes) -> None:
        if self._raw:
            self._raw += data  # as long as a head may be, and a read
        else:
            self._raw = data
            self._is_at_start = self._receiving is None

    def _after_upgrade(self, rest: bytes) -> bytes:
        """llhttp has stopped at a request to switch protocols; what of `rest` it shall read now."""
        if self._discarding:
            return b""
        self._parser = HttpRequestParser(self)
        if self._receiving is not None:
            self._resume_body(self._receiving)
        elif self._held is not None:
            self._held = rest
            return b""
        return rest

    def _resume_body(self, exchange: Exchange) -> None:
        """Go on where llhttp takes a body for the new protocol, of which we know nothing yet."""
        self._skips_head = True
        framing = (
            b"transfer-encoding: chunked"
            if exchange.chunked
            else b"content-length: " + exchange.headers[b"content-length"]
        )
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        self._skips_head = False

    def on_url(self, url: bytes) -> None:
        """A piece of the target; the first one begins an exchange."""
        if self._skips_head:
            return
        exchange = self._receiving
        if exchange is None:
            # Only `Downstream` is ever made, and it is a client's side; a cast costs a call.
            self._receiving = exchange = Exchange(self, url, self.read_ns)  # type: ignore[arg-type]
            exchange.headers = {}
            exchange.parts, exchange.pending, exchange.kept = [], [], []
        else:
            exchange.target += url
        bound = self._rules.max_target_bytes
        if len(exchange.target) > bound:
            raise Refused(414, f"request target is longer than {bound} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole field line of a head, or a trailer; several of one name come one by one."""
        exchange = self._receiving
        if exchange is None or self._skips_head:
            return
        if self._in_body:
            self._on_trailer(exchange, name, value)
            return
        lower = name.lower()
        rules = self._rules
        if lower in rules.special:
            headers = exchange.headers
            value = value.rstrip(b" \t")
            headers[lower] = joined(lower, headers[lower], value) if lower in headers else value
            if lower in rules.dropped:
                return
        exchange.parts += (name, b": ", value, b"\r\n")

    def _on_trailer(self, exchange: Exchange, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"connection":
            raise Refused(400, "Connection came as a trailer; expected it in the head")
        if lower not in NEVER_TRAILERS:
            exchange.trailers += b"%b: %b\r\n" % (name, value)
            if len(exchange.trailers) > self._rules.max_headers_bytes:
                raise Refused(431, "the trailers are longer than a header block may be")

    def on_headers_complete(self) -> None:
        """Check the head, match a route, and put the exchange in the queue; or raise Refused."""
        if self._skips_head:
            return
        exchange, parser = self._receiving, self._parser
        assert exchange is not None
        if self._measures_heads:
            self._check_length(exchange)
        method = parser.get_method()
        if not is_http(self._raw, method, exchange.target, is_at_start=self._is_at_start):
            raise Refused(400, "the request line names another protocol; expected HTTP")
        check_request(
            exchange,
            method,
            parser.get_http_version(),
            keep_alive=parser.should_keep_alive(),
        )
        exchange.forwarded = self._forwarding.lines(exchange.headers, http10=exchange.http10)
        if exchange.wants_body:
            self._check_body(exchange)
        flow = self.flow
        exchange.route = flow.only_route or flow.match(exchange)
        self._in_body = True
        self._head_bytes = 0
        if not self._take(exchange):
            self._discarding = True  # the client sends the rest again on another connection
            raise Refused(0, "too many pipelined requests")

    def _take(self, exchange: Exchange) -> bool:
        """A request's head is whole: it is next, or queued; False where the queue is full."""
        if self.current is None and not self.queue:
            self.current = exchange
        elif len(self.queue) < MAX_PIPELINED:
            self.queue.append(exchange)
        else:
            self.queue[-1].close = True
            return False
        return True

    def _holds_too_much(self) -> bool:
        """Of what nothing can be done with yet. Below that it is read on, to see a client go."""
        if self._held is not None and len(self._held) > MAX_PENDING_BYTES:
            return True
        queue = self.queue
        if not queue:
            return False
        return (
            len(queue) > MAX_PIPELINED // 2
            or sum(len(part) for exchange in queue for part in exchange.pending) > MAX_PENDING_BYTES
        )

    def _check_length(self, exchange: Exchange) -> None:
        rules = self._rules
        dropped = [value for name, value in exchange.headers.items() if name in rules.dropped]
        if sum(map(len, exchange.parts)) + sum(map(len, dropped)) > rules.max_headers_bytes:
            raise Refused(431, f"header block is longer than {rules.max_headers_bytes} bytes")

    def _check_body(self, exchange: Exchange) -> None:
        """Refuse a body too long before it is asked for; count what frames a chunked one."""
        bound = self._rules.max_body_bytes
        length = exchange.headers.get(b"content-length")
        if length is not None and int(length) > bound:
            raise Refused(413, f"the body has {int(length)} bytes; expected at most {bound}")
        self._is_past_head = exchange.chunked

    def on_chunk_header(self) -> None:
        """What a chunk needs to be framed is not counted as framing."""
        self._framing_bytes -= CHUNK_FRAMING_BYTES

    def on_body(self, data: bytes) -> None:
        """Count, and keep a copy up to the bounds of the route; dropped where none matched."""
        exchange = self._receiving
        if exchange is None:
            return
        size = len(data)
        self._framing_bytes -= size
        route = exchange.route
        if route is None:
            return
        if exchange.kept_bytes == exchange.request_bytes and (
            exchange.kept_bytes + size <= route.kept_bytes
        ):
            exchange.kept.append(data)
            exchange.kept_bytes += size
        elif exchange.kept_bytes < route.bodies_bytes:
            part = data[: route.bodies_bytes - exchange.kept_bytes]
            exchange.kept.append(part)
            exchange.kept_bytes += len(part)
        exchange.request_bytes += size
        if exchange.request_bytes > self._rules.max_body_bytes:
            bound = self._rules.max_body_bytes
            raise Refused(413, f"the body is longer than {bound} bytes")
        exchange.pending.append(data)

    def on_message_complete(self) -> None:
        """The next byte begins another request, or belongs to who answers a switch."""
        exchange = self._receiving
        if exchange is not None and exchange.wants_body and self._parser.should_upgrade():
            return  # the body is still to come: see _resume_body
        if self._is_past_head and self._framing_bytes > self._rules.max_headers_bytes:
            raise Refused(431, _TOO_MUCH_FRAMING)
        self._receiving = None
        self._in_body = self._is_past_head = self._is_at_start = False
        self._framing_bytes = 0
        if exchange is not None:
            exchange.complete = True
            if exchange.upgrade:
                self._held = b""
            if exchange.close:
                self._discarding = True  # nothing may follow on this connection
