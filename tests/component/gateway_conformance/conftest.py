"""A gateway in a thread of its own before an upstream that records, and raw sockets to ask it."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import h11
import pytest
import uvloop

from gateway import listening
from gateway.proxy import Proxy
from gateway.routing import LivePlan
from gateway.settings import (
    Address,
    ClientSettings,
    LimitSettings,
    MatchSettings,
    RetrySettings,
    RouteSettings,
    TimeoutSettings,
)
from mlops.contracts.plan import RoutePlan, Slot

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
BODY_LIMIT = 100_000
MALFORMED = "malformed"
"""What the upstream notes where another parser than ours cannot read what it was sent."""


SCRIPTED = "/scripted"
"""What is asked for to be answered with `Served.script`."""


@dataclass
class Script:
    """An answer, byte for byte, and what the upstream does after it."""

    data: bytes
    ending: str = ""
    """`close`, `reset`, or nothing: it waits for the next request."""
    piece_bytes: int = 0


@dataclass
class Seen:
    """One request as the upstream's own parser (h11) read it."""

    method: str = ""
    target: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    connection: int = 0
    """Told apart by number."""

    def header(self, name: str) -> str | None:
        """All values of `name`, joined; None where it did not come."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None


class Recorder(asyncio.Protocol):
    """Answers every whole request with 200, and notes it by the case that it belongs to."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=200_000)
        self._reading: Seen | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._served.transports.append(self._transport)
        self._number = len(self._served.transports)

    def _play(self, script: Script, start: int = 0) -> None:
        """Answer with bytes as they are, perhaps a few in each turn of the loop."""
        step = script.piece_bytes or len(script.data) or 1
        self._transport.write(script.data[start : start + step])
        if start + step < len(script.data) and not self._transport.is_closing():
            asyncio.get_running_loop().call_soon(self._play, script, start + step)
            return
        if script.ending == "close":
            self._transport.close()
        elif script.ending == "reset":
            opened = self._transport.get_extra_info("socket")
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=200_000)
        self._served.played.set()

    def data_received(self, data: bytes) -> None:
        self._connection.receive_data(data)
        try:
            self._read()
        except h11.RemoteProtocolError as error:
            self._served.seen.append(Seen(method=MALFORMED, target=f"{error}: {data!r}"))
            self._transport.close()

    def _read(self) -> None:
        while True:
            event = self._connection.next_event()
            if isinstance(event, h11.Request):
                headers = [
                    (name.decode(), value.decode("latin-1")) for name, value in event.headers
                ]
                self._served.begun.append(event.target.decode())
                self._reading = Seen(event.method.decode(), event.target.decode(), headers)
            elif isinstance(event, h11.Data):
                assert self._reading is not None
                self._reading.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert self._reading is not None
                self._reading.trailers = {k.decode(): v.decode() for k, v in event.headers}
                self._answer()
            else:
                return

    def _answer(self) -> None:
        assert self._reading is not None
        self._reading.connection = self._number
        self._served.seen.append(self._reading)
        if self._reading.target == SCRIPTED:
            self._play(self._served.script)
            return
        head = [("content-length", "2"), ("content-type", "text/plain")]
        body = b"" if self._reading.method == "HEAD" else b"ok"
        for event in (
            h11.Response(status_code=200, headers=head),
            *([h11.Data(data=body)] if body else []),
            h11.EndOfMessage(),
        ):
            self._transport.write(self._connection.send(event) or b"")
        if self._connection.our_state is h11.DONE:
            self._connection.start_next_cycle()
        else:
            self._transport.close()


class Served:
    """The gateway's thread: where to connect, and what went through."""

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.begun: list[str] = []
        """Target of every request whose head has reached the upstream."""
        self.seen: list[Seen] = []
        """Every request that has reached it whole."""
        self.script = Script(b"")
        self.played = threading.Event()
        """The script is at its end."""
        self.transports: list[asyncio.Transport] = []
        """Of every connection that the gateway has opened."""
        self.port = 0
        self.proxy: Proxy
        self._loop = new_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def forget(self) -> None:
        """What was seen before is another test's."""
        self.played.clear()
        self.begun.clear()
        self.seen.clear()

    def settle(self) -> None:
        """Wait until the script is at its end, and the gateway has read what it has to."""
        assert self.played.wait(5)
        turns = asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01), self._loop)
        turns.result(5)

    def was_reused(self) -> bool:
        """Whether the last two whole requests came over one connection."""
        return self.seen[-1].connection == self.seen[-2].connection

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = await self._loop.create_server(lambda: Recorder(self), "127.0.0.1", 0)
        slot = Slot(
            version="1", endpoints=(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",)
        )
        route = RouteSettings(
            name="rag",
            model="m",
            match=MatchSettings(),
            stable=slot,
            timeouts=TimeoutSettings(connect_s=5, first_byte_s=5, idle_s=5),
            retry=RetrySettings(attempts=1),
        )
        limits = LimitSettings(body_bytes=BODY_LIMIT)
        self.proxy = Proxy([route], None, clients=ClientSettings(limits=limits))
        self.proxy.apply(LivePlan(RoutePlan(route="rag", salt="s", generation=1, stable=slot)))
        [listens] = await listening.listen(Address(host="127.0.0.1", port=0), 1)
        await self.proxy.listen([listens])
        self.port = listens.getsockname()[1]
        listens.close()  # the proxy accepts from a copy
        self._ready.set()
        await self._stop.wait()
        await self.proxy.drain(0)
        server.close()
        for transport in self.transports:
            transport.abort()
        await asyncio.sleep(0.01)  # what was closed says so in the next turns of the loop


class Raw:
    """A client that sends bytes as they are, and reads answers one by one."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._got = b""
        self.was_reset = False

    def send(self, data: bytes, *, piece_bytes: int = 0) -> None:
        """In pieces of that size, each in a packet of its own; 0: at once."""
        with suppress(ConnectionError):  # refused before the last byte was sent
            for start in range(0, len(data), piece_bytes or len(data)):
                self._socket.sendall(data[start : start + (piece_bytes or len(data))])

    def _more(self) -> bool:
        try:
            data = self._socket.recv(65536)
        except ConnectionError:
            self.was_reset = True
            return False
        self._got += data
        return bool(data)

    def answer(self, *, no_body: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Status, headers by lower-case name, body; (0, {}, rest) where the connection ended."""
        while b"\r\n\r\n" not in self._got:
            if not self._more():
                return 0, {}, self._got
        head, _, self._got = self._got.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        size = 0 if no_body else int(headers.get("content-length", "0"))
        while len(self._got) < size:
            assert self._more(), "the connection ended within a body"
        body, self._got = self._got[:size], self._got[size:]
        return int(first.split(" ")[1]), headers, body

    def rest(self) -> bytes:
        """All that still comes; `was_reset` then says how the connection ended."""
        while self._more():
            pass
        got, self._got = self._got, b""
        return got

    def is_at_end(self) -> bool:
        """Whether the gateway has closed, and sent nothing more."""
        return not self._got and not self._more()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module", params=list(LOOPS))
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """One gateway for all the cases of a module, on each loop."""
    with Served(LOOPS[request.param]) as made:
        yield made


@pytest.fixture
def script() -> type[Script]:
    """The class of `Served.script`."""
    return Script


@pytest.fixture
def raw(served: Served) -> Iterator[Callable[[], Raw]]:
    """Opens clients, and closes them after the test."""
    opened: list[Raw] = []

    def connect() -> Raw:
        opened.append(Raw(served.port))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()
