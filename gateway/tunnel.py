"""Two connections after a switch of protocols: bytes both ways, until one of them ends.

From the 101 on, both transports report here and no longer to the HTTP side, so that the request
path knows nothing of tunnels. The exchange ends, and is recorded, when the tunnel does.
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING

from gateway.exchange import ENDED, Event
from gateway.outcome import CANCELLED, OK, TRUNCATED
from gateway.transports import reset

if TYPE_CHECKING:
    from gateway.downstream import Downstream
    from gateway.exchange import Exchange
    from gateway.upstream import Upstream


class Tunnel:
    """One switched exchange and the two connections that it holds."""

    def __init__(self, exchange: Exchange, client: Downstream, upstream: Upstream) -> None:
        self._exchange = exchange
        self._client = client
        self._upstream = upstream
        self._idle_ns = exchange.lane.route.idle_ns
        towards_client = TunnelEnd(self, client.transport)
        towards_upstream = TunnelEnd(self, upstream.transport)
        towards_client.peer, towards_upstream.peer = towards_upstream, towards_client
        self._towards_client, self._towards_upstream = towards_client, towards_upstream

    def start(self, from_client: bytes, from_upstream: bytes) -> None:
        """Take both connections over; the bytes are what came of the new protocol already."""
        self._client.transport.set_protocol(self._towards_client)
        self._upstream.transport.set_protocol(self._towards_upstream)
        self._towards_client.is_full = self._client.write_paused
        self._towards_upstream.is_full = self._upstream.is_full
        for end in (self._towards_client, self._towards_upstream):
            end.update_peer()
        if from_client:
            self._towards_client.data_received(from_client)
        if from_upstream:
            self._towards_upstream.data_received(from_upstream)
        self.moved()

    def count(self, end: TunnelEnd, size: int) -> None:
        """`end` has received so many bytes."""
        if end is self._towards_client:
            self._exchange.request_bytes += size
        else:
            self._exchange.response_bytes += size

    def moved(self) -> None:
        """Something came from either side: the time for the next begins."""
        self._client.deadline_ns = monotonic_ns() + self._idle_ns

    def idle(self) -> None:
        """Nothing moved for the route's idle timeout; that is nobody's fault."""
        self._finish(Event.DONE)
        for end in (self._towards_client, self._towards_upstream):
            self._close(end, flush_s=0.0)

    def lost(self, end: TunnelEnd, error: Exception | None) -> None:
        """One connection is closed; the other gets what is still on its way to it."""
        if end is self._towards_client:
            self._finish(Event.DONE if error is None else Event.CLIENT_LOST)
            self._client.connection_lost(error)
        else:
            self._finish(Event.DONE if error is None else Event.UPSTREAM_LOST)
            self._upstream.connection_lost(error)
        if error is None:
            self._close(end.peer, flush_s=self._idle_ns / 1e9)
        else:
            reset(end.peer.transport)

    @staticmethod
    def _close(end: TunnelEnd, *, flush_s: float) -> None:
        """Once it has taken what is on its way to it, or has not in `flush_s`."""
        transport = end.transport
        transport.close()
        if transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(flush_s, transport.abort)

    def _finish(self, event: Event) -> None:
        exchange = self._exchange
        if exchange.state == ENDED:
            return  # by the other side, a timeout or the end of a drain
        self._upstream.exchange = exchange.upstream = None
        self._client.current = None
        flow = self._client.flow
        outcome = {Event.DONE: OK, Event.CLIENT_LOST: CANCELLED, Event.UPSTREAM_LOST: TRUNCATED}
        flow.finish(exchange, event, outcome[event], exchange.status, monotonic_ns())


class TunnelEnd(asyncio.Protocol):
    """One of the two connections. What it receives goes to its peer."""

    peer: TunnelEnd

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self._tunnel = tunnel
        self.transport = transport
        self.is_full = False
        """It takes bytes more slowly than they come: its peer is not read meanwhile."""
        self.has_ended = False
        """It will send nothing more."""

    def data_received(self, data: bytes) -> None:
        """Counted, and written to the peer whatever it is."""
        tunnel = self._tunnel
        tunnel.count(self, len(data))
        tunnel.moved()
        if not self.peer.transport.is_closing():
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        """Half closed, where both transports can be; the other direction goes on."""
        self.has_ended = True
        peer = self.peer.transport
        if self.peer.has_ended or not (peer.can_write_eof() and self.transport.can_write_eof()):
            return False
        if not peer.is_closing():
            peer.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The tunnel ends with the first of its two connections."""
        self._tunnel.lost(self, exc)

    def pause_writing(self) -> None:
        """It takes bytes more slowly than they come."""
        self.is_full = True
        self.update_peer()

    def resume_writing(self) -> None:
        """It has caught up, which counts as movement."""
        self.is_full = False
        self._tunnel.moved()
        self.update_peer()

    def update_peer(self) -> None:
        """Read the peer only while what it sends can go somewhere."""
        transport = self.peer.transport
        if transport.is_closing() or self.peer.has_ended:
            return
        if self.is_full and transport.is_reading():
            transport.pause_reading()
        elif not self.is_full and not transport.is_reading():
            transport.resume_reading()
