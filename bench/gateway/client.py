"""Clients with a clock: a process of its own on the load's core, figures as JSON on stdout.

- `rate PORT PATH RATE SECONDS`: an open loop. Requests are due at fixed times and timed from
  when they were due, so that a proxy which stalls cannot hide what it held up.
- `events PORT STREAMS EVENTS EVERY_US`: event streams; how late each event is.
- `upload PORT BYTES TIMES CONNECTIONS`, `download PORT BYTES TIMES CONNECTIONS`: long bodies.
- `idle PORT CONNECTIONS PATH`: opens connections, one request each, and holds them until its
  stdin is closed; an empty PATH asks nothing.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import sys
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, cast

import uvloop

from bench.gateway.servers import BODY, CHAT
from bench.gateway.timing import summary

CONNECTIONS = 64
USERS = 10_000
TIMER_NS = 100_000
"""Between two looks at what is due; the event loop's own timers tick in milliseconds."""
CONNECTS_AT_ONCE = 200
MAX_LATE_S = 10
"""How long answers still on their way at the end are waited for."""


def post(path: str, body: bytes, user: int) -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"x-user-id: user-%d\r\ncontent-length: %d\r\n\r\n%b"
    ) % (path.encode(), user, len(body), body)


class Connection(asyncio.Protocol):
    """Counts answers by their lengths: heads are found, not parsed, to leave the core to load."""

    def __init__(self, answered: Callable[[Connection], None]) -> None:
        self.transport: asyncio.Transport
        self.due_ns = 0
        self.status = b""
        self._answered = answered
        self._head = b""
        self._left = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            self._head = b""
            self.status = head[9:12]
            lower = head.lower()
            at = lower.find(b"content-length:")
            self._left = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else CHUNKED
        if self._left == CHUNKED:
            self._left = 0 if data.endswith(b"0\r\n\r\n") else CHUNKED
            if self._left == CHUNKED:
                return
        else:
            self._left -= len(data)
        if self._left <= 0:
            self._left = -1
            self._answered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.status = b"000"


CHUNKED = 1 << 62


async def connect(
    port: int, count: int, answered: Callable[[Connection], None]
) -> list[Connection]:
    loop = asyncio.get_running_loop()
    made: list[Connection] = []
    while len(made) < count:
        batch = min(CONNECTS_AT_ONCE, count - len(made))
        opened = await asyncio.gather(
            *(
                loop.create_connection(lambda: Connection(answered), "127.0.0.1", port)
                for _ in range(batch)
            )
        )
        made += [protocol for _, protocol in opened]
    return made


class OpenLoop:
    """Sends what is due, whether or not earlier requests were answered."""

    def __init__(self, per_s: float, seconds: float, path: str) -> None:
        self._gap_ns = 1e9 / per_s
        self._total = int(per_s * seconds)
        body = CHAT if path.startswith("/v1/chat") else BODY
        self._requests = [post(path, body, user) for user in range(USERS)]
        self._idle: deque[Connection] = deque()
        self._waiting: deque[int] = deque()
        self._sent = self.errors = 0
        self.latencies_ns: list[int] = []
        self.done = asyncio.Event()
        self._began_ns = 0

    def start(self, connections: list[Connection]) -> None:
        self._idle.extend(connections)
        self._began_ns = monotonic_ns()

    def tick(self) -> None:
        """Queue what has become due, and send as far as connections are free."""
        due = min(self._total, int((monotonic_ns() - self._began_ns) / self._gap_ns) + 1)
        for number in range(self._sent, due):
            due_ns = self._began_ns + int(number * self._gap_ns)
            self._sent += 1
            if self._idle:
                self._send(self._idle.popleft(), due_ns)
            else:
                self._waiting.append(due_ns)

    def _send(self, connection: Connection, due_ns: int) -> None:
        connection.due_ns = due_ns
        connection.transport.write(self._requests[due_ns % USERS])

    def answered(self, connection: Connection) -> None:
        self.latencies_ns.append(monotonic_ns() - connection.due_ns)
        if connection.status != b"200":
            self.errors += 1
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)
        if len(self.latencies_ns) == self._total:
            self.done.set()

    @property
    def unanswered(self) -> int:
        return self._total - len(self.latencies_ns)


async def rate(port: int, path: str, per_s: float, seconds: float) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    open_loop = OpenLoop(per_s, seconds, path)
    connections = await connect(port, CONNECTIONS, open_loop.answered)
    timer = ticking(TIMER_NS)
    gc.freeze()
    gc.disable()
    open_loop.start(connections)

    def expired() -> None:
        os.read(timer, 8)
        open_loop.tick()

    loop.add_reader(timer, expired)
    try:
        async with asyncio.timeout(seconds + MAX_LATE_S):
            await open_loop.done.wait()
    except TimeoutError:
        pass
    loop.remove_reader(timer)
    os.close(timer)
    found = summary(open_loop.latencies_ns)
    return {**found, "errors": open_loop.errors + open_loop.unanswered}


def ticking(every_ns: int) -> int:
    """A timer's descriptor that becomes readable each `every_ns`: finer than the loop's timers."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.timerfd_create(1, os.O_NONBLOCK | os.O_CLOEXEC)  # 1: CLOCK_MONOTONIC
    spec = (ctypes.c_long * 4)(0, every_ns, 0, every_ns)
    if descriptor < 0 or libc.timerfd_settime(descriptor, 0, ctypes.byref(spec), None) < 0:
        raise OSError(ctypes.get_errno(), "no timer")
    return int(descriptor)


class Stream(asyncio.Protocol):
    """One event stream: lateness of each event by the clock that stands in it."""

    def __init__(self, first_ns: list[int], late_ns: list[int], ended: Callable[[], None]) -> None:
        self._first_ns, self._late_ns, self._ended = first_ns, late_ns, ended
        self._saw_first = False
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        now_ns = monotonic_ns()
        *events, self._tail = (self._tail + data).split(b'{"t": ')
        for text in (*events, self._tail)[1:]:
            clock, found, _ = text.partition(b",")
            if not found:
                self._tail = b'{"t": ' + text
                break
            self._late_ns.append(now_ns - int(clock))
            if not self._saw_first:
                self._saw_first = True
                self._first_ns.append(self._late_ns[-1])
        if self._tail.endswith(b"0\r\n\r\n"):
            self._ended()
        if not self._tail.startswith(b'{"t": '):
            self._tail = self._tail[-8:]


async def events(port: int, streams: int, count: int, every_us: int) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    first_ns: list[int] = []
    late_ns: list[int] = []
    left, done = [streams], asyncio.Event()

    def ended() -> None:
        left[0] -= 1
        if not left[0]:
            done.set()

    opened = await asyncio.gather(
        *(
            loop.create_connection(lambda: Stream(first_ns, late_ns, ended), "127.0.0.1", port)
            for _ in range(streams)
        )
    )
    gc.freeze()
    gc.disable()
    began_ns = monotonic_ns()
    for user, (transport, _) in enumerate(opened):
        transport.write(
            b"GET /events?n=%d&every_us=%d HTTP/1.1\r\nhost: 127.0.0.1\r\nx-user-id: user-%d\r\n"
            b"accept: text/event-stream\r\n\r\n" % (count, every_us, user)
        )
    async with asyncio.timeout(count * every_us / 1e6 + MAX_LATE_S):
        await done.wait()
    return {
        "events": len(late_ns),
        "seconds": (monotonic_ns() - began_ns) / 1e9,
        "first": summary(first_ns),
        "each": summary(late_ns),
    }


async def bodies(
    port: int, count: int, times: int, connections: int, *, upload: bool
) -> dict[str, Any]:
    """Move `times` bodies of `count` bytes over each of `connections` connections."""
    block = bytes(256 * 1024)

    async def move(user: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        for _ in range(times):
            common = b"host: 127.0.0.1\r\nx-user-id: user-%d\r\n" % user
            if upload:
                writer.write(
                    b"POST /sink HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n" % (common, count)
                )
                for at in range(0, count, len(block)):
                    writer.write(block[: count - at])
                    await writer.drain()
            else:
                writer.write(b"GET /bytes?n=%d HTTP/1.1\r\n%b\r\n" % (count, common))
            await _read_answer(reader, None if upload else count)
        writer.close()

    began_ns = monotonic_ns()
    await asyncio.gather(*(move(user) for user in range(connections)))
    return {"seconds": (monotonic_ns() - began_ns) / 1e9, "bytes": count * times * connections}


async def _read_answer(reader: asyncio.StreamReader, expected: int | None) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise RuntimeError(f"expected 200, got {head[:80]!r}")
    if b"content-length:" not in head:
        await reader.readuntil(b"0\r\n\r\n")
        return
    left = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
    if expected is not None and left != expected:
        raise RuntimeError(f"expected {expected} bytes, got {left}")
    while left:
        data = await reader.read(left if left < 1 << 20 else 1 << 20)
        if not data:
            raise RuntimeError(f"{left} bytes are missing")
        left -= len(data)


async def idle(port: int, count: int, path: str) -> dict[str, Any]:
    answered = [0]
    done = asyncio.Event()

    def one(connection: Connection) -> None:
        answered[0] += 1
        if answered[0] == count:
            done.set()

    connections = await connect(port, count, one)
    if path:
        for user, connection in enumerate(connections):
            connection.transport.write(post(path, BODY, user))
            if user % CONNECTS_AT_ONCE == 0:
                await asyncio.sleep(0.02)
        async with asyncio.timeout(60):
            await done.wait()
    print("open", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    lost = sum(connection.status == b"000" for connection in connections)
    return {"open": count - lost, "answered": answered[0]}


def main() -> None:
    verb, port, *rest = sys.argv[1:]
    match verb:
        case "rate":
            found = uvloop.run(rate(int(port), rest[0], float(rest[1]), float(rest[2])))
        case "events":
            found = uvloop.run(events(int(port), *map(int, rest)))
        case "upload" | "download":
            size, times, connections = map(int, rest)
            found = uvloop.run(bodies(int(port), size, times, connections, upload=verb == "upload"))
        case "idle":
            found = uvloop.run(idle(int(port), int(rest[0]), rest[1]))
        case _:
            sys.exit(f"expected rate, events, upload, download or idle, got {verb!r}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
