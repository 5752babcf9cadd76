"""The side towards the client: requests in order, answers in the same order."""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, Final, cast

from gateway import answers
from gateway.answers import RETRY_AFTER
from gateway.deadlines import NEVER
from gateway.exchange import Exchange, State
from gateway.keys import waits_for_body
from gateway.plain import RepeatedRequest
from gateway.request_reader import MAX_PENDING_BYTES, RequestReader
from gateway.transports import is_tls, peer_address, reset
from gateway.tunnel import Tunnel
from gateway.upstream import MAX_WRITE_BUFFER_BYTES, Upstream

if TYPE_CHECKING:
    from gateway.flow import Flow

HEAD_NS: Final = 10_000_000_000
"""From the first byte of a head to its last: a client that drips a head holds a descriptor."""

LINGER_NS: Final = 1_000_000_000
"""How long bytes of a refused client are read and dropped, so that a reset does not overtake the
answer on its way; and how long a connection above the bound may take to ask, to be told."""

FLUSH_NS: Final = 60_000_000_000
"""What a client may take for the rest of its last answer before it is cut off, as in nginx."""

_RECEIVED: Final = int(State.RECEIVED)
_ROUTED: Final = int(State.ROUTED)


class Downstream(RequestReader):
    """One client connection."""

    __slots__ = (
        "_has_more",
        "_is_turned_away",
        "_refusal",
        "_repeated",
        "_tunnel",
        "deadline_ns",
        "reading_paused",
        "transport",
        "write_paused",
    )

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow)
        self.transport: asyncio.Transport
        self.deadline_ns = NEVER
        self.write_paused = False
        self.reading_paused = False
        self._repeated = RepeatedRequest(self._rules.max_headers_bytes)
        self._has_more = False
        """It sends more requests than are taken."""
        self._is_turned_away = False
        """There are too many connections: it is told so when it asks."""
        self._tunnel: Tunnel | None = None
        self._refusal: tuple[int, str] | None = None
        """Goes out after the answers that are still owed."""

    # ---- what asyncio reports -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepted, and its TLS handshake is over: it has its idle time to ask for something."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self.transport.set_write_buffer_limits(high=MAX_WRITE_BUFFER_BYTES)
        self._forwarding = self._rules.forwarding(peer_address(transport), is_tls=is_tls(transport))
        connections = self.flow.connections
        connections.add(self)
        self.deadline_ns = monotonic_ns() + self.flow.client_idle_ns
        if len(connections) > self._rules.max_connections:
            self._turn_away(len(connections) - self._rules.max_connections)

    def _turn_away(self, above: int) -> None:
        if above > self._rules.max_turned_away:
            self.abort()
            return
        self._discarding = self._is_turned_away = True
        self.deadline_ns = monotonic_ns() + LINGER_NS

    def data_received(self, data: bytes) -> None:
        """Either a request like the last, read by comparing, or bytes for llhttp."""
        if self._discarding:
            if self._is_turned_away:
                self._is_turned_away = False
                self._write_refusal(503, "too many connections", RETRY_AFTER)
            return
        self.read_ns = monotonic_ns()
        is_between = not (
            self.current is not None
            or self._head_bytes
            or self._receiving is not None
            or self.queue
            or self.write_paused
            or self._refusal is not None
        )
        if is_between and self._took_repeated(data):
            return
        if not self._in_body and self._held is None:
            self._count_head(data)
        sent = self.current
        if sent is not None and not sent.complete:
            sent = None
        self._feed(data)
        exchange = self.current
        if exchange is not None and exchange is not sent:  # else these are later requests' bytes
            if is_between and exchange.complete and not self.queue:
                self._repeated.learn(data, exchange, self._rules, self._forwarding)
            self._progress(exchange)
        if self.queue or self.reading_paused or self._held is not None:
            self.update_reading()

    def _count_head(self, data: bytes) -> None:
        if not self._head_bytes and self.current is None:
            self.deadline_ns = self.read_ns + HEAD_NS
        self._head_bytes += len(data)
        if self._head_bytes > self._rules.max_headers_bytes:
            self._measures_heads = True

    def _took_repeated(self, data: bytes) -> bool:
        """Whether `data` was one whole request like the last, which is now on its way."""
        exchange = self._repeated.read(self, data, self.read_ns)
        if exchange is None:
            return False
        flow = self.flow
        route = flow.only_route or flow.match(exchange)
        size = exchange.kept_bytes
        if route is None or size > route.kept_bytes or size > self._rules.max_body_bytes:
            return False
        exchange.route = route
        self.current = exchange
        flow.begin(exchange)
        return True

    def eof_received(self) -> None:
        """The client has closed; half-closed connections are not kept, as in nginx."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: what it asked for is given up, what it queued never begins."""
        flow = self.flow
        self._discarding = True
        current, self.current = self.current, None
        self.queue.clear()
        self._receiving = None
        if current is not None:
            flow.client_lost(current)
        self._parser = None  # its callbacks point back here
        flow.disconnected(self)

    def pause_writing(self) -> None:
        """It takes the answer more slowly than that comes: its upstream is read no further."""
        self.write_paused = True
        if self.current is not None and self.current.upstream is not None:
            self.current.upstream.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up: its answer goes on, or the request that waited for this begins."""
        self.write_paused = False
        current = self.current
        if current is None:
            self._advance()
        elif current.state == _RECEIVED:  # it came while the answer before it was on its way
            self.read_ns = monotonic_ns()  # a lease may have ended since
            self._progress(current)
        elif current.upstream is not None:
            current.upstream.resume_reading()

    # ---- moving on ----------------------------------------------------------------------------

    def _progress(self, exchange: Exchange) -> None:
        """Do what the bytes that have come make possible."""
        state = exchange.state
        if state == _RECEIVED:
            if self.write_paused:
                return  # the answer before it is still on its way; see resume_writing
            self._start(exchange)
        elif exchange.upstream is not None:
            if exchange.pending or exchange.complete:
                self._send_more(exchange)
        elif state == _ROUTED:
            self.update_reading()

    def _start(self, exchange: Exchange) -> None:
        route = exchange.route
        if route is None:
            self._refuse_unrouted(exchange)
            return
        if not exchange.complete:
            self.deadline_ns = self.read_ns + route.idle_ns
            if exchange.expects_continue and not exchange.pending:
                exchange.expects_continue = False
                self.write(answers.CONTINUE)
            waits_for_key = route.sticky_json is not None and waits_for_body(exchange, route)
            # A body is on its way: with its first bytes the request goes out in one write, and a
            # body that is malformed from the start is never forwarded.
            if exchange.wants_body and (not exchange.pending or waits_for_key):
                return
        self.flow.begin(exchange)

    def _send_more(self, exchange: Exchange) -> None:
        upstream, route = exchange.upstream, exchange.lane.route
        assert upstream is not None
        upstream.send_more(exchange)
        awaits_answer = exchange.complete and exchange.state < State.STREAMING
        self.deadline_ns = self.read_ns + (route.first_byte_ns if awaits_answer else route.idle_ns)

    def exchange_done(self, exchange: Exchange, now_ns: int) -> None:
        """The answer to `exchange` is written whole; the next may go."""
        self.current = None
        if exchange.close or not exchange.complete:
            sends_on = self._has_more or bool(self.queue) or self._head_bytes > 0
            self._close(linger=sends_on or not exchange.complete)
        elif exchange.upgrade:
            # What still comes is not compared, which would be before what is held.
            self._repeated = RepeatedRequest(self._rules.max_headers_bytes)
            self.flow.later(self._release_held)
        elif self.queue or self._refusal is not None:
            # In the next turn of the loop: a long pipeline of short answers must not recurse.
            self.flow.later(self._advance)
        else:
            self.deadline_ns = now_ns + self.flow.client_idle_ns

    def switch(self, exchange: Exchange, early: bytes) -> None:
        """The upstream has switched protocols, and `early` is what it sent of the new one."""
        held, self._held = self._held, None
        upstream = exchange.upstream
        assert isinstance(upstream, Upstream)
        self._tunnel = Tunnel(exchange, self, upstream)
        self._tunnel.start(held or b"", early)

    def _release_held(self) -> None:
        """The protocol stays: what followed the request to switch is HTTP after all."""
        held, self._held = self._held, None
        self.deadline_ns = monotonic_ns() + self.flow.client_idle_ns
        if held and not self.transport.is_closing():
            self.data_received(held)
        self._advance()

    def _advance(self) -> None:
        if self.current is not None or self.write_paused or self.transport.is_closing():
            return
        if self.queue:
            self.current = self.queue.popleft()
            self.read_ns = monotonic_ns()
            self._progress(self.current)
        elif self._refusal is not None:
            status, message = self._refusal
            self._refusal = None
            self._write_refusal(status, message)
        self.update_reading()

    def update_reading(self) -> None:
        """Read the client only while what it sends can go somewhere.

        The bytes of a request that is whole are held already: it may end before the upstream takes
        them, and nothing would say then that the client is to be read again.
        """
        current = self.current
        full = self._holds_too_much()
        if current is not None and not (full or current.complete):
            upstream = current.upstream
            full = (
                upstream.is_full
                if upstream is not None
                else (sum(map(len, current.pending)) > MAX_PENDING_BYTES)
            )
        if full != self.reading_paused and not self.transport.is_closing():
            self.reading_paused = full
            if full:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    # ---- endings ------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send, unless the connection is closing already."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def refuse(self, status: int, message: str) -> None:
        """The client broke the rules, or a bound: answer in turn, then close."""
        self._discarding = True
        receiving, self._receiving = self._receiving, None
        if status == 0:
            self._has_more = True
            return
        current = self.current
        if current is not None and current is receiving:
            self._refuse_current(current, status, message)
        elif current is None and not self.queue:
            self._write_refusal(status, message)
        else:
            if self.queue and self.queue[-1] is receiving:
                self.queue.pop()
            self._refusal = (status, message)

    def _refuse_current(self, exchange: Exchange, status: int, message: str) -> None:
        """No other answer is owed before; one to `exchange` that has begun can only be cut."""
        self.current = None
        if exchange.state < State.STREAMING:
            self.flow.client_lost(exchange, status)
            self._write_refusal(status, message)
        else:
            self.flow.client_lost(exchange, exchange.status)
            self.abort()

    def _write_refusal(self, status: int, message: str, headers: bytes = b"") -> None:
        self.flow.refuse(status)
        body = answers.problem(status, message)
        self.write(answers.answer(status, body, close=True, headers=headers))
        self._close(linger=True)

    def _refuse_unrouted(self, exchange: Exchange) -> None:
        self.flow.refuse(404)
        exchange.close = exchange.close or self.flow.closing or not exchange.complete
        body = answers.problem(404, "no route matches this request")
        self.write(answers.answer(404, body, close=exchange.close, head_only=exchange.head_only))
        self.exchange_done(exchange, self.read_ns)

    def _close(self, *, linger: bool) -> None:
        self._discarding = True
        self.queue.clear()
        if self.transport.is_closing():
            return
        if linger and self.transport.can_write_eof():
            self.transport.write_eof()
            self.deadline_ns = monotonic_ns() + LINGER_NS
            self.reading_paused = True
            self.update_reading()
        else:
            self._close_flushed()

    def _close_flushed(self) -> None:
        """Close once the client has taken what was written, or has not in `FLUSH_NS`."""
        self.deadline_ns = monotonic_ns() + FLUSH_NS
        self.transport.close()

    def abort(self) -> None:
        """Close in a way that no client can take for the end of an answer."""
        self.current = None
        self._discarding = True
        reset(self.transport)

    def on_deadline(self) -> None:
        """The deadline has passed; the sweep says so once a tick."""
        self.deadline_ns = NEVER
        if self._tunnel is not None:
            self._tunnel.idle()
        elif self.current is not None:
            self._current_is_late(self.current)
        elif (self._head_bytes or self._receiving is not None) and not self._discarding:
            self.refuse(408, f"the head did not come within {HEAD_NS // 10**9} s")
        elif self.transport.get_write_buffer_size() and not self.transport.is_closing():
            self._close_flushed()
        else:
            self.transport.abort()

    def _current_is_late(self, exchange: Exchange) -> None:
        if exchange.state == _RECEIVED:
            if self.write_paused:
                self.abort()  # it does not read the answer before, so it cannot be told
            else:
                self.refuse(408, "the request did not come in time")
        else:
            self.flow.timed_out(exchange)

    def close_if_idle(self, idle_ns: int) -> None:
        """Drain: close a connection on which nothing happens, or has it closed once it is late."""
        if self.current is not None or self.queue or self._head_bytes:
            return
        self.deadline_ns = min(self.deadline_ns, monotonic_ns() + idle_ns)
        if not idle_ns:
            self._close_flushed()

    def cut(self) -> None:
        """Drain is over: end whatever is under way."""
        current = self.current
        self.abort()
        if current is not None:
            self.flow.client_lost(current)
