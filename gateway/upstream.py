"""The side towards the model server: one keep-alive connection, one exchange at a time on it."""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, cast

from httptools import HttpResponseParser

from gateway.exchange import ENDED, EVENTS, NEXT, Event, Exchange
from gateway.framing import (
    MAX_RESPONSE_HEAD_BYTES,
    chunk,
    has_no_body,
    last_chunk,
    remove,
    status_line,
    without,
)
from gateway.outcome import OUTCOME_OF_STATUS, Failure
from gateway.plain import RepeatedAnswer, parts_of
from gateway.pool import DIALING, IDLE, IN_USE
from gateway.response_reader import END_OF_HEAD, ResponseReader

if TYPE_CHECKING:
    from gateway.flow import Flow
    from gateway.lanes import Upstreams

MAX_WRITE_BUFFER_BYTES: Final = 64 * 1024
"""Unsent bytes per connection before the other side is no longer read; asyncio's own default."""

_SENT: Final = int(Event.SENT)
_HEAD: Final = int(Event.HEAD)
_DONE: Final = int(Event.DONE)


class Upstream(ResponseReader):
    """Sends one request at a time and passes its answer on as it comes."""

    __slots__ = (
        "_reading_paused",
        "_repeated",
        "_used",
        "endpoint",
        "flow",
        "idle_since_ns",
        "is_full",
        "pool_state",
        "transport",
    )

    def __init__(self, flow: Flow, endpoint: Upstreams) -> None:
        super().__init__()
        self.flow = flow
        self.endpoint = endpoint
        self.transport: asyncio.Transport
        self.idle_since_ns = 0
        self.pool_state = DIALING
        self.is_full = False
        """The upstream takes the request more slowly than it comes."""
        self._used = False
        self._reading_paused = False
        self._repeated = RepeatedAnswer()

    # ---- towards the upstream -----------------------------------------------------------------

    def start(self, exchange: Exchange) -> None:
        """Send the head, and what there is of the body, in one write."""
        self.pool_state = IN_USE
        self.exchange = exchange
        exchange.upstream = self
        exchange.endpoint = self.endpoint
        at_once = exchange.waiting is None and exchange.attempts == 1
        exchange.waiting = None
        exchange.state = NEXT[exchange.state * EVENTS + _SENT]
        lane, client = exchange.lane, exchange.client
        pending, exchange.pending = exchange.pending, []
        raw_head, forwarded = exchange.raw_head, exchange.forwarded
        if raw_head and not lane.replaced:
            head = [raw_head]
        else:
            head = self._head_of(exchange, lane.replaced)
            if lane.replaced:
                forwarded = without(forwarded, lane.replaced)
        head += (lane.headers, forwarded, b"x-request-id: ", exchange.request_id, END_OF_HEAD)
        if exchange.chunked:
            self._add_chunks(head, pending, exchange)
        else:
            head += pending
        self.transport.write(b"".join(head))
        now_ns = monotonic_ns()
        if client.reading_paused:
            client.update_reading()
        if at_once:
            exchange.own_ns = now_ns - client.read_ns
        route = lane.route
        client.deadline_ns = now_ns + (route.first_byte_ns if exchange.complete else route.idle_ns)

    def _head_of(self, exchange: Exchange, replaced: frozenset[bytes]) -> list[bytes]:
        """Request line and field lines, written anew."""
        parts = exchange.parts or parts_of(exchange.raw_head)
        if replaced:
            parts = list(parts)
            remove(parts, replaced)
        head = [exchange.method, b" ", exchange.target, b" HTTP/1.1\r\n", *parts]
        if exchange.http10 and b"host" not in exchange.headers and b"host" not in replaced:
            head.append(b"host: %b\r\n" % self.endpoint.host.encode())
        if exchange.chunked:
            head.append(b"transfer-encoding: chunked\r\n")
        if exchange.upgrade:
            head.append(b"connection: upgrade\r\nupgrade: %b\r\n" % exchange.upgrade)
        return head

    def send_more(self, exchange: Exchange) -> None:
        """Send the part of the body that has come since."""
        pending, exchange.pending = exchange.pending, []
        if exchange.chunked:
            chunks: list[bytes] = []
            self._add_chunks(chunks, pending, exchange)
            pending = chunks
        if pending and not self.transport.is_closing():
            self.transport.write(pending[0] if len(pending) == 1 else b"".join(pending))

    @staticmethod
    def _add_chunks(into: list[bytes], pending: list[bytes], exchange: Exchange) -> None:
        if pending:
            into.append(chunk(b"".join(pending)))
        if exchange.complete:
            into.append(last_chunk(without(exchange.trailers, exchange.lane.replaced)))

    # ---- what asyncio reports -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open, through TLS where that is spoken; `serve_first` follows."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self.transport.set_write_buffer_limits(high=MAX_WRITE_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """A piece of the answer, of several or of a whole one like the last."""
        exchange = self.exchange
        if exchange is None:
            self._leave_pool()  # nobody asked: whatever it is, it answers no request of ours
            return
        now_ns = monotonic_ns()
        is_first = not exchange.first_ns
        if is_first:
            exchange.first_ns = now_ns
            if exchange.complete and not exchange.head_only and not exchange.is_timed:
                answer = self._repeated
                body = answer.body_of(data)
                # Routes may share this connection and retry different statuses.
                if body is not None and answer.status not in exchange.lane.route.retry_statuses:
                    self._pass_repeated(exchange, body, now_ns)
                    return
        rest = self._parsed(data)
        if rest is None:
            self._fail(Failure.GARBAGE)
        elif self._head_ready:
            if self._frames_too_much(data, exchange):
                self._fail(Failure.GARBAGE)
                return
            if exchange.head_only:
                # llhttp waits for a body; what it has begun to read of one shows only here.
                self._reusable = self._reusable and END_OF_HEAD.endswith(data[-len(END_OF_HEAD) :])
            elif is_first and self._done:
                self._learn(data, exchange)
            self._pass_on(exchange, now_ns)
        else:
            self._pass_interim(exchange, rest, len(data))

    def _pass_interim(self, exchange: Exchange, rest: bytes, data_bytes: int) -> None:
        """The head of the answer is not whole yet; what came before it may be for the client."""
        self._head_bytes += data_bytes
        if self._interim_heads:
            exchange.client.write(self._interim_heads)
            self._interim_heads = b""
        if self._switches:
            exchange.state = NEXT[exchange.state * EVENTS + _HEAD]
            exchange.client.write(self._switching_head(exchange))
            exchange.client.switch(exchange, rest)
        elif self._head_bytes > MAX_RESPONSE_HEAD_BYTES:
            self._fail(Failure.GARBAGE)

    def _learn(self, data: bytes, exchange: Exchange) -> None:
        status = self._status
        if status not in exchange.lane.route.retry_statuses and not has_no_body(status):
            self._repeated.learn(data, status, status_line(status, self._phrase))

    def eof_received(self) -> None:
        """The end of an answer without a length, or of a connection that was idle."""
        exchange = self.exchange
        if exchange is None:
            self._leave_pool()
        elif self._close_delimited and not self._done:
            self._done = True
            self._pass_on(exchange, monotonic_ns())

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever was being answered is tried again or told; a waiter gets another dial."""
        self.endpoint.closed(self)
        exchange = self.exchange
        if exchange is not None:
            self.exchange = None
            exchange.upstream = None
            nothing_came = exchange.first_ns == 0
            if not (self._used and nothing_came and self.flow.stale(exchange)):
                self.flow.failed(exchange, Failure.RESET, self.endpoint)
        self._parser = None
        if self.endpoint.waiters:
            waiter = self.endpoint.waiters[0]
            assert waiter.route is not None
            self.flow.dial_if_needed(self.endpoint, waiter.route.connect_s)

    def pause_writing(self) -> None:
        """The upstream takes the request more slowly than it comes."""
        self.is_full = True
        self._repeated = RepeatedAnswer()  # so that the answer ends in `_release`, which looks
        if self.exchange is not None:
            self.exchange.client.update_reading()

    def resume_writing(self) -> None:
        """It has taken nearly all of the request."""
        self.is_full = False
        if self.exchange is not None:
            self.exchange.client.update_reading()

    # ---- towards the client -------------------------------------------------------------------

    def _pass_on(self, exchange: Exchange, now_ns: int) -> None:
        """Send on what has come. The record is offered before the last byte is written."""
        client, lane = exchange.client, exchange.lane
        status = self._status
        if self._head_sent:
            out: list[bytes] = []
        else:
            if status in lane.route.retry_statuses and self._retried(exchange, status):
                return
            self._head_sent = True
            if self.flow.closing or not exchange.complete:
                exchange.close = True
            out = [self._interim_heads, *self._head(exchange)]
            exchange.state = NEXT[exchange.state * EVENTS + _HEAD]
        pieces = self._body
        if pieces:
            self._body = []
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            exchange.note_answer(body, lane.route.bodies_bytes, now_ns)
            out.append(chunk(body) if self._chunks_out else body)
        if not self._done:
            if out:
                client.deadline_ns = now_ns + lane.route.idle_ns
                client.write(b"".join(out))
            return
        if self._chunks_out:
            out.append(last_chunk(self._trailers))
        end_ns = monotonic_ns()
        exchange.own_ns += end_ns - now_ns
        self.flow.finish(exchange, _DONE, OUTCOME_OF_STATUS[status], status, end_ns)
        client.write(b"".join(out))
        self._release(exchange, end_ns)
        client.exchange_done(exchange, end_ns)

    def _pass_repeated(self, exchange: Exchange, body: bytes, now_ns: int) -> None:
        """Send on a whole answer in one write; `_head` and `_pass_on` for the usual case."""
        client, lane, flow = exchange.client, exchange.lane, self.flow
        answer = self._repeated
        status = answer.status
        exchange.state = NEXT[exchange.state * EVENTS + _HEAD]
        exchange.response_content_type = answer.content_type
        exchange.response_content_encoding = answer.content_encoding
        exchange.response_kept = [body]
        exchange.response_bytes = len(body)
        if flow.closing:
            exchange.close = True
        end_ns = monotonic_ns()
        exchange.own_ns += end_ns - now_ns
        flow.finish(exchange, _DONE, OUTCOME_OF_STATUS[status], status, end_ns)
        client.write(
            b"".join(
                (
                    answer.status_line,
                    answer.fields,
                    lane.served_by,
                    b"x-request-id: ",
                    exchange.request_id,
                    b"\r\nconnection: close\r\n\r\n" if exchange.close else b"\r\n\r\n",
                    body,
                )
            )
        )
        self.exchange = exchange.upstream = None
        if self._reading_paused:
            self.resume_reading()
        self._keep(end_ns)
        client.exchange_done(exchange, end_ns)

    # ---- endings ------------------------------------------------------------------------------

    def _retried(self, exchange: Exchange, status: int) -> bool:
        """Give the exchange to another attempt in place of this answer, if that is allowed."""
        self.exchange = None
        if not self.flow.retried_status(exchange, status, self.endpoint):
            self.exchange = exchange
            return False
        if (
            self._done
            and self._reusable
            and exchange.complete
            and not (exchange.head_only or self.is_full)
        ):
            self._reset()
            self._keep(monotonic_ns())
        else:
            self.transport.abort()
        return True

    def _release(self, exchange: Exchange, now_ns: int) -> None:
        """The answer is whole: keep the connection if it is clean, for a waiter or for later."""
        self.exchange = exchange.upstream = None
        if not self._reusable or not exchange.complete or exchange.pending or self.is_full:
            self.transport.close()  # the next request would wait behind what nobody may ever read
            return
        if exchange.head_only:
            self._parser = HttpResponseParser(self)
        if self._reading_paused:
            self.resume_reading()
        self._reset()
        self._keep(now_ns)

    def _keep(self, now_ns: int) -> None:
        """The connection is clean: on to the next exchange, or into the pool."""
        if self.transport.is_closing():
            return
        self._used = True
        endpoint = self.endpoint
        if endpoint.waiters or endpoint.retired or len(endpoint.idle) >= endpoint.max_idle:
            self.serve_first(now_ns)
        else:  # `put_back` for the usual case, without the call
            self.idle_since_ns = now_ns
            self.pool_state = IDLE
            endpoint.idle.append(self)

    def serve_first(self, now_ns: int) -> None:
        """Whoever waits longest gets this connection, else it becomes idle."""
        if self.transport.is_closing():
            return  # when its loss is reported, another is dialled
        endpoint = self.endpoint
        if endpoint.waiters:
            self.start(endpoint.waiters.popleft())
        elif not endpoint.put_back(self, now_ns):
            self.transport.close()

    def _fail(self, failure: Failure) -> None:
        exchange = self.exchange
        self.abandon()
        if exchange is not None and exchange.state != ENDED:
            self.flow.failed(exchange, failure, self.endpoint)

    def abandon(self) -> None:
        """Break off: the rest of this answer is of no use, so neither is the connection."""
        if self.exchange is not None:
            self.exchange.upstream = None
            self.exchange = None
        self.transport.abort()

    def _leave_pool(self) -> None:
        self.endpoint.withdraw(self)
        self.transport.close()

    def pause_reading(self) -> None:
        """The client takes the answer more slowly than it comes."""
        if not self._reading_paused and not self.transport.is_closing():
            self._reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """The client has caught up."""
        if self._reading_paused and not self.transport.is_closing():
            self._reading_paused = False
            self.transport.resume_reading()
