"""The side towards the model server: one keep-alive connection, one exchange at a time on it."""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.exchange import ENDED, Event, Exchange
from gateway.framing import (
    LAST_CHUNK,
    MAX_RESPONSE_HEAD_BYTES,
    RESPONSE_DROPPED,
    RESPONSE_SPECIAL,
    STATUS_LINES,
    chunk,
    drop_named,
    has_no_body,
    joined,
    remove,
)
from gateway.outcome import OUTCOME_OF_STATUS, Failure

if TYPE_CHECKING:
    from gateway.flow import Flow
    from gateway.lanes import Upstreams

MAX_WRITE_BUFFER_BYTES: Final = 64 * 1024
"""Unsent bytes per connection before the other side is no longer read; asyncio's own default."""

MAX_INTERIM_ANSWERS: Final = 8
"""1xx answers before the real one; more is an upstream that makes no progress."""

_SENT: Final = int(Event.SENT)
_HEAD: Final = int(Event.HEAD)
_DONE: Final = int(Event.DONE)


class _BadAnswer(Exception):
    """The head is HTTP, but not an answer that can be passed on."""


class Upstream(asyncio.Protocol):
    """Sends one request at a time and passes its answer on as it comes."""

    __slots__ = (
        "_body",
        "_chunks_out",
        "_close_delimited",
        "_done",
        "_head_bytes",
        "_head_ready",
        "_head_sent",
        "_interim",
        "_parser",
        "_parts",
        "_quiet_bytes",
        "_reading_paused",
        "_reusable",
        "_special",
        "_status",
        "_transport",
        "_used",
        "endpoint",
        "exchange",
        "flow",
        "idle_since_ns",
        "is_full",
    )

    def __init__(self, flow: Flow, endpoint: Upstreams) -> None:
        self.flow = flow
        self.endpoint = endpoint
        self.exchange: Exchange | None = None
        self._transport: asyncio.Transport
        self.idle_since_ns = 0
        self.is_full = False
        """The upstream takes the request more slowly than it comes."""
        self._parser = HttpResponseParser(self)
        self._used = False
        self._reading_paused = False
        self._reset()

    def _reset(self) -> None:
        self._parts: list[bytes] = []
        self._special: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._head_ready = self._head_sent = self._done = False
        self._close_delimited = self._chunks_out = False
        self._head_bytes = self._quiet_bytes = self._interim = 0
        self._reusable = True

    @property
    def transport(self) -> asyncio.Transport:
        return self._transport

    # ---- towards the upstream -----------------------------------------------------------------

    def start(self, exchange: Exchange) -> None:
        """Send the head, and what there is of the body, in one write."""
        self.exchange = exchange
        exchange.upstream = self
        at_once = exchange.waiting is None and exchange.attempts == 1
        exchange.waiting = None
        exchange.on(_SENT)
        lane, client = exchange.lane, exchange.client
        assert lane is not None
        assert client is not None
        parts = exchange.parts
        if lane.replaced:
            parts = list(parts)
            remove(parts, lane.replaced)
        head = [exchange.method, b" ", exchange.target, b" HTTP/1.1\r\n", *parts]
        if exchange.http10 and b"host" not in exchange.headers:
            head.append(b"host: %b\r\n" % self.endpoint.url.partition("://")[2].encode())
        if exchange.chunked:
            head.append(b"transfer-encoding: chunked\r\n")
        head += (lane.headers, b"x-request-id: ", exchange.request_id, b"\r\n\r\n")
        pending = exchange.pending
        if pending or (exchange.chunked and exchange.complete):
            exchange.pending = []
            if exchange.chunked:
                self._add_chunks(head, pending, complete=exchange.complete)
            else:
                head += pending
        self._transport.write(b"".join(head))
        now_ns = monotonic_ns()
        if client.reading_paused:
            client.update_reading()
        if at_once:
            exchange.own_ns = now_ns - client.read_ns
        route = lane.route
        client.deadline_ns = now_ns + (route.first_byte_ns if exchange.complete else route.idle_ns)

    def send_more(self, exchange: Exchange) -> None:
        """Send the part of the body that has come since."""
        pending, exchange.pending = exchange.pending, []
        if exchange.chunked:
            chunks: list[bytes] = []
            self._add_chunks(chunks, pending, complete=exchange.complete)
            pending = chunks
        if pending and not self._transport.is_closing():
            self._transport.write(pending[0] if len(pending) == 1 else b"".join(pending))

    @staticmethod
    def _add_chunks(into: list[bytes], pending: list[bytes], *, complete: bool) -> None:
        if pending:
            into.append(chunk(b"".join(pending)))
        if complete:
            into.append(LAST_CHUNK)

    # ---- what asyncio reports -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._transport.set_write_buffer_limits(high=MAX_WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self._leave_pool()  # nobody asked: whatever it is, it answers no request of ours
            return
        now_ns = monotonic_ns()
        if not exchange.first_ns:
            exchange.first_ns = now_ns
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._fail(Failure.GARBAGE)
            return
        except HttpParserError:
            if not self._done:
                self._fail(Failure.GARBAGE)
                return
            self._reusable = False
        if self._head_ready:
            self._pass_on(exchange, now_ns, len(data))
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_RESPONSE_HEAD_BYTES:
            self._fail(Failure.GARBAGE)

    def eof_received(self) -> None:
        exchange = self.exchange
        if exchange is None:
            self._leave_pool()
        elif self._close_delimited and not self._done:
            self._done = True
            self._pass_on(exchange, monotonic_ns(), 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self.endpoint.closed(self)
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            exchange.upstream = None
            nothing_came = exchange.first_ns == 0
            if not (self._used and nothing_came and self.flow.stale(exchange)):
                self.flow.failed(exchange, Failure.RESET)
        self._parser = None
        if self.endpoint.waiters:
            waiter = self.endpoint.waiters[0]
            assert waiter.route is not None
            self.flow.dial_if_needed(self.endpoint, waiter.route.connect_s)

    def pause_writing(self) -> None:
        self.is_full = True
        if self.exchange is not None and self.exchange.client is not None:
            self.exchange.client.update_reading()

    def resume_writing(self) -> None:
        self.is_full = False
        if self.exchange is not None and self.exchange.client is not None:
            self.exchange.client.update_reading()

    # ---- what the parser reports --------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_ready:
            return  # a trailer: RFC 9110, 6.5.1 lets a proxy drop it
        lower = name.lower()
        if lower in RESPONSE_SPECIAL:
            special = self._special
            if lower in special:
                value = joined(lower, special[lower], value)
            special[lower] = value
            if lower in RESPONSE_DROPPED:
                return
        self._parts += (name, b": ", value, b"\r\n")

    def on_headers_complete(self) -> None:
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            self._interim += 1
            if status == 101 or self._interim > MAX_INTERIM_ANSWERS:
                raise _BadAnswer(f"status {status}; expected the answer to a request")
            self._parts = []
            self._special = {}
            return
        special = self._special
        coding = special.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            raise _BadAnswer(f"Transfer-Encoding {coding!r}; expected exactly chunked")
        self._status = status
        self._head_ready = True
        self._reusable = parser.should_keep_alive()
        exchange = self.exchange
        assert exchange is not None
        if exchange.head_only:
            self._done = True  # llhttp does not know that this answers a HEAD and waits for a body
        elif not has_no_body(status) and b"content-length" not in special:
            self._close_delimited = coding is None
            self._chunks_out = not exchange.http10

    def on_body(self, data: bytes) -> None:
        if self._done:
            self._reusable = False  # a body after an answer that has none
            return
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._head_ready:
            self._done = True

    # ---- towards the client -------------------------------------------------------------------

    def _pass_on(self, exchange: Exchange, now_ns: int, data_bytes: int) -> None:
        """Send on what has come. The record is offered before the last byte is written."""
        client, lane = exchange.client, exchange.lane
        assert client is not None
        assert lane is not None
        out: list[bytes] = []
        status = self._status
        if not self._head_sent:
            if status in lane.route.retry_statuses and self._retried(exchange, status):
                return
            self._head_sent = True
            out.extend(self._head(exchange, status))
            exchange.on(_HEAD)
            if b"content-type" in self._special:
                self._note_content(exchange)
        pieces = self._body
        if pieces:
            self._body = []
            self._quiet_bytes = 0
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._note_body(exchange, body, now_ns)
            out.append(chunk(body) if self._chunks_out else body)
        elif not self._done:
            self._quiet_bytes += data_bytes
            if self._quiet_bytes > MAX_RESPONSE_HEAD_BYTES:
                self._fail(Failure.GARBAGE)
                return
        if not self._done:
            if out:
                client.deadline_ns = now_ns + lane.route.idle_ns
                client.write(b"".join(out))
            return
        if self._chunks_out:
            out.append(LAST_CHUNK)
        end_ns = monotonic_ns()
        exchange.own_ns += end_ns - now_ns
        self.flow.finish(exchange, _DONE, OUTCOME_OF_STATUS[status], status, end_ns)
        client.write(b"".join(out))
        self._release(exchange, end_ns)
        client.exchange_done(exchange)

    def _head(self, exchange: Exchange, status: int) -> list[bytes]:
        special, parts = self._special, self._parts
        if b"connection" in special:
            drop_named(parts, special[b"connection"])
        if status == 204 and b"content-length" in special:
            remove(parts, frozenset({b"content-length"}))
        if not exchange.complete or self.flow.closing:
            exchange.close = True
        if exchange.http10 and self._close_delimited:
            exchange.close = True
        exchange.status = status
        lane = exchange.lane
        assert lane is not None
        head = [
            STATUS_LINES[status],
            *parts,
            lane.served_by,
            b"x-request-id: ",
            exchange.request_id,
        ]
        if self._chunks_out:
            head.append(b"\r\ntransfer-encoding: chunked")
        head.append(b"\r\nconnection: close\r\n\r\n" if exchange.close else b"\r\n\r\n")
        return head

    def _note_content(self, exchange: Exchange) -> None:
        special = self._special
        content_type = special[b"content-type"]
        exchange.response_content_type = content_type
        exchange.response_content_encoding = special.get(b"content-encoding", b"")
        if content_type.startswith(b"text/event-stream"):
            exchange.sse_tail = b""

    def _note_body(self, exchange: Exchange, body: bytes, now_ns: int) -> None:
        exchange.response_bytes += len(body)
        lane = exchange.lane
        assert lane is not None
        room = lane.route.bodies_bytes - exchange.response_kept_bytes
        if room > 0:
            kept = body if len(body) <= room else body[:room]
            exchange.response_kept.append(kept)
            exchange.response_kept_bytes += len(kept)
        if exchange.sse_tail is not None:
            exchange.note_events(body, now_ns)

    # ---- endings ------------------------------------------------------------------------------

    def _retried(self, exchange: Exchange, status: int) -> bool:
        """Give the exchange to another attempt in place of this answer, if that is allowed."""
        self.exchange = None
        if not self.flow.retried_status(exchange, status):
            self.exchange = exchange
            return False
        if self._done and self._reusable and exchange.complete:
            self._settle(monotonic_ns())
        else:
            self._transport.abort()
        return True

    def _release(self, exchange: Exchange, now_ns: int) -> None:
        """The answer is whole: keep the connection if it is clean, for a waiter or for later."""
        self.exchange = None
        exchange.upstream = None
        if not (self._reusable and exchange.complete and not exchange.pending):
            self._transport.close()
            return
        if exchange.head_only:
            self._parser = HttpResponseParser(self)
        if self._reading_paused:
            self.resume_reading()
        self._settle(now_ns)

    def _settle(self, now_ns: int) -> None:
        if self._transport.is_closing():
            return
        self._used = True
        self._reset()
        waiter = self.endpoint.next_waiter()
        if waiter is not None:
            self.start(waiter)
        elif not self.endpoint.put_back(self, now_ns):
            self._transport.close()

    def serve_first(self, now_ns: int) -> None:
        """A new connection: whoever waits longest gets it."""
        waiter = self.endpoint.next_waiter()
        if waiter is not None:
            self.start(waiter)
        elif not self.endpoint.put_back(self, now_ns):
            self._transport.close()

    def _fail(self, failure: Failure) -> None:
        exchange = self.exchange
        self.abandon()
        if exchange is not None and exchange.state != ENDED:
            self.flow.failed(exchange, failure)

    def abandon(self) -> None:
        """Break off: the rest of this answer is of no use, so neither is the connection."""
        if self.exchange is not None:
            self.exchange.upstream = None
            self.exchange = None
        self._transport.abort()

    def _leave_pool(self) -> None:
        if self in self.endpoint.idle:
            self.endpoint.idle.remove(self)
        self._transport.close()

    def pause_reading(self) -> None:
        """The client takes the answer more slowly than it comes."""
        if not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()
