"""Reads one request after the other off a client connection, within bounds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from gateway.exchange import Exchange
from gateway.framing import (
    MAX_HEAD_BYTES,
    MAX_TARGET_BYTES,
    REQUEST_DROPPED,
    Refused,
    check_request,
    joined,
)

if TYPE_CHECKING:
    from gateway.flow import Flow

TOO_LONG: Final = f"header block is longer than {MAX_HEAD_BYTES} bytes"


class RequestReader(asyncio.Protocol):
    """What llhttp reports of a client's requests; the other half of `Downstream`."""

    __slots__ = (
        "_discarding",
        "_head_bytes",
        "_in_body",
        "_measures_heads",
        "_parser",
        "_quiet_bytes",
        "_receiving",
        "flow",
        "read_ns",
    )

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.read_ns = 0
        """When the last bytes came."""
        self._parser = HttpRequestParser(self)
        self._receiving: Exchange | None = None
        """The exchange whose request is being read; often the current one."""
        self._in_body = False
        self._head_bytes = 0
        self._quiet_bytes = 0
        """Of a chunked body, since the last byte of content; 0 while that is not counted."""
        self._measures_heads = False
        """Once as many bytes came at a time as a head may have; before, it cannot be too long."""
        self._discarding = False
        """Nothing that still comes is looked at: the connection ends."""

    def take(self, exchange: Exchange) -> bool:
        """A request's head is whole; False where no more are taken on this connection."""
        raise NotImplementedError

    def refuse(self, status: int, message: str) -> None:
        """The client broke the rules, or a bound."""
        raise NotImplementedError

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                # The request asked to switch protocols. We do not, and go on with HTTP/1.1.
                data = data[upgrade.args[0] :]
                self._parser = HttpRequestParser(self)
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
        if self._quiet_bytes:
            self._quiet_bytes += len(data)
            if self._quiet_bytes > MAX_HEAD_BYTES:
                self.refuse(431, TOO_LONG)
        elif self._head_bytes > MAX_HEAD_BYTES and not self._in_body:
            self.refuse(431, TOO_LONG)

    def on_url(self, url: bytes) -> None:
        exchange = self._receiving
        if exchange is None:
            # Only `Downstream` is ever made, and it is a client's side; a cast costs a call.
            self._receiving = exchange = Exchange(self, url, self.read_ns)  # type: ignore[arg-type]
            exchange.headers = {}
            exchange.parts, exchange.pending, exchange.kept = [], [], []
        else:
            exchange.target += url
        if len(exchange.target) > MAX_TARGET_BYTES:
            raise Refused(414, f"request target is longer than {MAX_TARGET_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # a trailer: RFC 9110, 6.5.1 lets a proxy drop it
        exchange = self._receiving
        assert exchange is not None
        lower = name.lower()
        if lower in self.flow.special:
            headers = exchange.headers
            headers[lower] = joined(lower, headers[lower], value) if lower in headers else value
            if lower in REQUEST_DROPPED:
                return
        exchange.parts += (name, b": ", value, b"\r\n")

    def on_headers_complete(self) -> None:
        exchange, parser = self._receiving, self._parser
        assert exchange is not None
        if self._measures_heads and sum(map(len, exchange.parts)) > MAX_HEAD_BYTES:
            raise Refused(431, TOO_LONG)
        check_request(
            exchange,
            parser.get_method(),
            parser.get_http_version(),
            keep_alive=parser.should_keep_alive(),
        )
        flow = self.flow
        exchange.route = flow.only_route or flow.match(exchange)
        self._in_body = True
        self._head_bytes = 0
        if not self.take(exchange):
            self._discarding = True  # the client sends the rest again on another connection
            raise Refused(0, "too many pipelined requests")

    def on_body(self, data: bytes) -> None:
        exchange = self._receiving
        if exchange is None:
            return
        self._quiet_bytes = 0
        size = len(data)
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
        exchange.pending.append(data)

    def on_message_complete(self) -> None:
        exchange = self._receiving
        self._receiving = None
        self._in_body = False
        self._quiet_bytes = 0
        if exchange is not None:
            exchange.complete = True
            if exchange.close:
                self._discarding = True  # nothing may follow on this connection
