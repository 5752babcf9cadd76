"""A gateway in this process between raw sockets: real loops, real upstreams, a spool that keeps."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from time import monotonic

import pytest
import uvloop

from gateway import listening
from gateway.downstream import Downstream
from gateway.exchange import Exchange
from gateway.observing import Observing
from gateway.proxy import Proxy
from gateway.record import ExchangeRecord
from gateway.routing import LivePlan
from gateway.settings import (
    Address,
    ClientSettings,
    MatchSettings,
    RouteSettings,
    StickySettings,
    TimeoutSettings,
)
from mlops.contracts.plan import RoutePlan, Slot

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\nok"


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test here runs on both loops: what holds on one must hold on the other."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


class KeepingSpool:
    """Keeps what it is offered, with the bytes the client had been sent by then."""

    worker = "test"
    last_drop_reason = "spool_full"

    def __init__(self) -> None:
        self.records: list[ExchangeRecord] = []
        self.accepts = True

    def offer(self, record: ExchangeRecord) -> bool:
        assert isinstance(record, Exchange)
        if self.accepts:
            self.records.append(record)
        return self.accepts


class Client:
    """Raw bytes in, raw bytes out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes, *, one_by_one: bool = False) -> None:
        for part in [data[i : i + 1] for i in range(len(data))] if one_by_one else [data]:
            self.writer.write(part)
            await self.writer.drain()
            if one_by_one:
                await asyncio.sleep(0)

    async def answer(self, *, no_body: bool = False) -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers by lower-case name, body."""
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = head.split("\r\n")
            status = int(lines[0].split(" ")[1])
            headers = {
                name.lower(): value for name, _, value in (x.partition(": ") for x in lines[1:-2])
            }
            if no_body or status in (100, 204, 304):
                return status, headers, b""
            if headers.get("transfer-encoding") == "chunked":
                return status, headers, await self._chunks()
            if "content-length" in headers:
                body = await self.reader.readexactly(int(headers["content-length"]))
                return status, headers, body
            return status, headers, await self.reader.read()

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readline() == b"\r\n"
        return body

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(5):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b"(reset)"

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Go away without a word, as a process that is killed with bytes unread."""
        opened = self.writer.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@dataclass
class Upstreamed:
    """An upstream that was started, and every request head that reached it."""

    url: str
    server: asyncio.Server
    connections: int = 0
    ended: int = 0
    """Connections that the gateway, or the handler, has closed."""
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


async def read_request(
    reader: asyncio.StreamReader, seen: Upstreamed | None = None
) -> tuple[bytes, bytes] | None:
    """One whole request; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    lower = head.lower()
    body = b""
    if b"content-length: " in lower:
        body = await reader.readexactly(int(lower.split(b"content-length: ")[1].split(b"\r\n")[0]))
    elif b"transfer-encoding: chunked" in lower:
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    if seen is not None:
        seen.heads.append(head)
        seen.bodies.append(body)
    return head, body


class World:
    """One gateway, its upstreams and clients; everything is closed at the end of the test."""

    def __init__(self) -> None:
        self.spool = KeepingSpool()
        self.observing: Observing | None = None
        self.proxy: Proxy
        self.address: Address
        self._clients: list[Client] = []
        self._upstreams: list[Upstreamed] = []
        self._handlers: set[asyncio.Task[None]] = set()

    async def upstream(self, *answers: bytes | Handler) -> Upstreamed:
        """Answers requests in turn, the last answer again and again; bytes or a handler."""
        given = list(answers) or [OK]
        started = Upstreamed("", None)  # type: ignore[arg-type]

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._handlers.add(task)
            started.connections += 1
            try:
                while await read_request(reader, started) is not None:
                    answer = given.pop(0) if len(given) > 1 else given[0]
                    if isinstance(answer, bytes):
                        writer.write(answer)
                        await writer.drain()
                    else:
                        await answer(reader, writer)
            except (ConnectionError, asyncio.CancelledError):
                pass
            finally:
                started.ended += 1
                writer.close()

        started.server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
        started.url = f"http://127.0.0.1:{started.server.sockets[0].getsockname()[1]}"
        self._upstreams.append(started)
        return started

    async def gateway(
        self,
        stable: str | tuple[str, ...],
        *,
        canary: str | None = None,
        share_bp: int = 0,
        clients: ClientSettings | None = None,
        **settings: object,
    ) -> None:
        endpoints = (stable,) if isinstance(stable, str) else stable
        route = RouteSettings(
            name="rag",
            model="model",
            match=MatchSettings(),
            stable=Slot(version="1", endpoints=endpoints),
            sticky=StickySettings(header="x-user-id"),
            timeouts=TimeoutSettings(connect_s=0.5, first_byte_s=0.4, idle_s=0.4),
        )
        route = replace(route, **settings)  # type: ignore[arg-type]
        self.proxy = Proxy([route], self.spool, self.observing, clients=clients)
        slot = Slot(version="2", endpoints=(canary,)) if canary else None
        self.apply(generation=1, stable=route.stable, canary=slot, canary_share_bp=share_bp)
        await self.listen()

    async def listen(self) -> None:
        """Let the proxy accept on a port of its own."""
        address = Address(host="127.0.0.1", port=0)
        sockets = await listening.listen(address, 1)
        await self.proxy.listen(sockets)
        self.address = listening.bound(address, sockets)
        for each in sockets:
            each.close()  # the proxy accepts from a copy

    def apply(self, *, lease_ends_at_s: float = float("inf"), **plan: object) -> None:
        full = RoutePlan(route="rag", salt="salt", **plan)  # type: ignore[arg-type]
        self.proxy.apply(LivePlan(full, lease_ends_at_s))

    async def client(self, *, receive_buffer_bytes: int = 0) -> Client:
        """With a small receive buffer, little fits into it while the client does not read."""
        opened = socket.socket()
        if receive_buffer_bytes:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        opened.setblocking(False)
        address = ("127.0.0.1", self.address.port)
        await asyncio.get_running_loop().sock_connect(opened, address)
        client = Client(*await asyncio.open_connection(sock=opened))
        self._clients.append(client)
        return client

    @property
    def connections(self) -> list[Downstream]:
        """The client connections that the gateway has."""
        return list(self.proxy._flow.connections)

    async def records(self, count: int) -> list[ExchangeRecord]:
        """Wait until `count` exchanges have ended, and that none is in flight."""
        await until(lambda: len(self.spool.records) >= count and self.proxy.in_flight == 0)
        assert len(self.spool.records) == count
        return self.spool.records

    @staticmethod
    async def until(condition: Callable[[], bool]) -> None:
        await until(condition)

    async def nothing_left(self) -> None:
        """Wait until no client connection is open, and no upstream connection is in use."""
        endpoints = self.proxy._endpoints.values()
        await until(
            lambda: (
                self.proxy.connections == 0
                and self.proxy.in_flight == 0
                and all(each.open == len(each.idle) and not each.waiters for each in endpoints)
            )
        )

    async def close(self) -> None:
        for client in self._clients:
            client.close()
        if hasattr(self, "proxy"):
            await self.proxy.drain(0)
        for upstream in self._upstreams:
            upstream.server.close()
        for _ in range(5):  # what was accepted in the last turns of the loop gets its handler
            await asyncio.sleep(0)
        for task in self._handlers:
            task.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        for client in self._clients:
            with suppress(ConnectionError):
                await client.writer.wait_closed()


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    """Give way to others until the condition holds."""
    ends_s = monotonic() + timeout_s
    while not condition():
        assert monotonic() < ends_s, "the condition did not come true in time"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def a_world() -> AsyncIterator[World]:
    world = World()
    try:
        yield world
    finally:
        await world.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with a_world() as made:
        yield made
