"""The request path without a kernel: fake transports, an upstream that reads with h11.

`check_requests` and `check_answers` take any bytes at all, as what a client or an upstream sends,
and hold whatever comes out to rules that must hold for every input. They raise AssertionError.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import h11

from gateway.client_rules import ClientRules
from gateway.downstream import Downstream
from gateway.exchange import ENDED
from gateway.flow import Flow
from gateway.lanes import RouteState
from gateway.pool import Endpoint
from gateway.routing import LivePlan
from gateway.settings import (
    ClientSettings,
    MatchSettings,
    RetrySettings,
    RouteSettings,
    StickySettings,
)
from gateway.upstream import Upstream
from mlops.contracts.plan import RoutePlan, Slot

SLOT = Slot(version="1", endpoints=("http://h:1",))
MAX_INCOMPLETE_BYTES = 1_000_000
"""h11 refuses long heads earlier than we do; that is no difference in reading."""


class Transport:
    """Keeps what is written; closing is reported only when asked, as loops do."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.written = bytearray()
        self.is_aborted = self.closing = self.lost = self.ended = False
        self.reads = True
        self.unsent_bytes = 0
        """Of what was written; set by whoever plays a peer that does not read."""

    def write(self, data: bytes) -> None:
        assert not self.ended, "written after the end"
        if not self.closing:
            self.written += data

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.is_aborted = self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def set_write_buffer_limits(self, high: int) -> None:
        assert high > 0

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def pause_reading(self) -> None:
        """The rules hold for whatever still comes."""
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_reading(self) -> bool:
        return self.reads

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str) -> object:
        if name == "socket":
            return SimpleNamespace(family=socket.AF_INET, setsockopt=lambda *_: None)
        return ("192.0.2.7", 1) if name == "peername" else None

    def report(self, error: Exception | None = None) -> None:
        if not self.lost:
            self.closing = self.lost = True
            self.protocol.connection_lost(error)


@dataclass
class Request:
    """One request as h11 reads it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    is_whole: bool = False

    @property
    def essence(self) -> tuple[str, str, bytes]:
        return self.method, self.target, self.body


class Rig:
    """One gateway without sockets, one client, and as many upstream connections as it opens."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.last_drop_reason = ""
        self.upstreams: list[Transport] = []
        self._later: list[Any] = []
        route = RouteState(
            RouteSettings(
                name="fuzz",
                model="fuzz",
                match=MatchSettings(),
                stable=SLOT,
                sticky=StickySettings(header="x-user-id"),
                retry=RetrySettings(attempts=1),
            ),
            says_served_by=True,
        )
        rules = ClientRules(ClientSettings())
        self.flow = Flow(self, self._dial, self._later.append, rules, Random(1))
        self.flow.serve([route], {b"x-user-id"})
        self.pool: Any = Endpoint(SLOT.endpoints[0])
        plan = RoutePlan(route="fuzz", generation=1, salt="s", stable=SLOT)
        route.apply(LivePlan(plan), lambda _: self.pool)
        self.transport = Transport()
        self.client = Downstream(self.flow)
        self._connect(self.client, self.transport)

    def offer(self, record: Any) -> bool:
        assert record.state == ENDED
        assert record not in self.records, "one exchange, two records"
        self.records.append(record)
        return True

    @staticmethod
    def _connect(protocol: Any, transport: Transport) -> None:
        transport.protocol = protocol
        protocol.connection_made(transport)

    def _dial(self, endpoint: Any, connect_s: float) -> None:
        self._later.append(self._dialled)

    def _dialled(self) -> None:
        upstream, transport = Upstream(self.flow, self.pool), Transport()
        self.upstreams.append(transport)
        self._connect(upstream, transport)
        self.pool.dialled(upstream)
        upstream.serve_first(1)

    def settle(self) -> None:
        """Run what was put off to the next turn of the loop, and report closed connections."""
        while self._later or any(t.closing and not t.lost for t in self.upstreams):
            callbacks, self._later[:] = self._later[:], []
            for callback in callbacks:
                callback()
            for transport in self.upstreams:
                if transport.closing:
                    transport.report()

    def feed(self, data: bytes) -> None:
        """From the client, unless its connection is closed."""
        if not self.transport.lost and data:
            self.transport.protocol.data_received(data)
            self.settle()
            if self.transport.closing:
                self.transport.report()

    def finish(self) -> None:
        """The client goes away; nothing may be left."""
        self.transport.report()
        self.settle()
        assert self.flow.in_flight == 0, "an exchange has no end"
        assert not len(self.flow.connections)
        assert not self.pool.waiters


class Reading:
    """The upstream's own reading of one connection."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.requests: list[Request] = []
        self._taken = 0
        self._connection = h11.Connection(h11.SERVER, MAX_INCOMPLETE_BYTES)

    def read(self) -> list[Request]:
        """Requests that have become whole since the last call."""
        data = bytes(self.transport.written[self._taken :])
        self._taken += len(data)
        if data:
            self._connection.receive_data(data)
        whole = []
        while True:
            event = self._connection.next_event()
            if isinstance(event, h11.Request):
                headers = [
                    (name.decode(), value.decode("latin-1")) for name, value in event.headers
                ]
                method, target = event.method.decode(), event.target.decode("latin-1")
                self.requests.append(Request(method, target, headers))
            elif isinstance(event, h11.Data):
                self.requests[-1].body += event.data
            elif isinstance(event, h11.EndOfMessage):
                request = self.requests[-1]
                request.is_whole = True
                request.trailers = {k.decode(): v.decode("latin-1") for k, v in event.headers}
                whole.append(request)
                self._next()
            else:
                return whole

    def _next(self) -> None:
        connection = self._connection
        connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        connection.send(h11.EndOfMessage())
        if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
            connection.start_next_cycle()


def cuts(data: bytes) -> list[bytes]:
    """The same cuts for the same bytes: here and there, or everywhere."""
    random = Random(crc32(data))
    if random.random() < 0.3:
        return [data[at : at + 1] for at in range(len(data))]
    edges = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(1, 6)))
    return [data[a:b] for a, b in zip([0, *edges], [*edges, len(data)], strict=True) if a < b]


def play(pieces: list[bytes]) -> tuple[list[Request], list[int], bool]:
    """Send them to a gateway whose upstream always answers; what was forwarded, told, and fate.

    The answer names its request by number, so that one given to another client would show.
    """
    rig = Rig()
    readings: list[Reading] = []
    forwarded: list[Request] = []
    for piece in pieces:
        rig.feed(piece)
        answered = True
        while answered:
            answered = False
            readings += [Reading(each) for each in rig.upstreams[len(readings) :]]
            for reading in readings:
                for request in reading.read():
                    answered = True
                    number = b"%d" % len(forwarded)
                    forwarded.append(request)
                    reading.transport.protocol.data_received(
                        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b"
                        % (len(number), b"" if request.method == "HEAD" else number)
                    )
                    rig.settle()
    statuses = told(bytes(rig.transport.written), forwarded)
    is_open = not (rig.transport.closing or rig.transport.ended)
    rig.finish()
    return forwarded, statuses, is_open


def told(written: bytes, forwarded: list[Request]) -> list[int]:
    """The statuses of whole answers; each 200 must be the one to its request, in order."""
    statuses: list[int] = []
    number = 0
    while written:
        head, found, written = written.partition(b"\r\n\r\n")
        assert found, f"an answer without a whole head: {head!r}"
        status = int(head[9:12])
        statuses.append(status)
        if status == 100:
            continue
        lines = [line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:]]
        size = int({line[0]: line[1] for line in lines}[b"content-length"])
        if status == 200:
            size = 0 if forwarded[number].method == "HEAD" else size
            assert written[:size] == (b"%d" % number if size else b"")
            number += 1
        assert len(written) >= size
        written = written[size:]
    return statuses


def read_by_h11(data: bytes) -> list[Request]:
    """The requests that h11 finds in what the client sent, up to the first it refuses."""
    transport = Transport()
    transport.written += data
    reading = Reading(transport)
    with suppress(h11.RemoteProtocolError, h11.LocalProtocolError):
        reading.read()
    return [request for request in reading.requests if request.is_whole]


def check_requests(data: bytes) -> None:
    """Whatever a client sends: forwarded whole and well formed or not at all, however it is cut."""
    forwarded, statuses, is_open = play([data])
    final = [status for status in statuses if status >= 200]
    assert final.count(200) == len(forwarded)
    assert all(status in (200, 400, 408, 413, 414, 417, 431, 505) for status in final), final
    assert len(final) - len(forwarded) in (0, 1), "more than one refusal"
    assert is_open or 100 not in statuses[-1:], "closed while the client was asked to go on"
    in_pieces = play(cuts(data))
    assert [r.essence for r in in_pieces[0]] == [r.essence for r in forwarded]
    assert [r.trailers for r in in_pieces[0]] == [r.trailers for r in forwarded]
    assert [status for status in in_pieces[1] if status >= 200] == final
    assert in_pieces[2] == is_open
    for ours, theirs in zip(forwarded, read_by_h11(data), strict=False):
        assert ours.body == theirs.body, "another parser sees another body"
        assert ours.method == theirs.method
        assert ours.target == theirs.target or not theirs.target.startswith(("/", "*"))
