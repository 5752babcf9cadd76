"""An upstream of streams: server-sent events with the time in each, long bodies, and a sink.

- `GET /events?n=N&every_us=U`: N events, one each U microseconds, as a model server sends tokens:
  one write an event, each with the monotonic clock in it.
- `GET /bytes?n=N`: N bytes. `POST /sink`: reads the body and says how long it was.
- anything else: a short answer.
"""

from __future__ import annotations

import asyncio
import sys
from time import monotonic_ns
from typing import cast
from urllib.parse import parse_qsl, urlsplit

import httptools
import uvloop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n"
BLOCK = bytes(256 * 1024)
CHUNK_OF_EVENT = b"%x\r\n%b\r\n"
TOKEN = b'data: {"t": %d, "choices": [{"index": 0, "delta": {"content": "token"}}]}\n\n'


class Upstream(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._task: asyncio.Task[None] | None = None
        self._url = b""
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    def on_url(self, url: bytes) -> None:
        self._url = url
        self._received = 0

    def on_body(self, data: bytes) -> None:
        self._received += len(data)

    def on_message_complete(self) -> None:
        parts = urlsplit(self._url.decode())
        query = {name: int(value) for name, value in parse_qsl(parts.query)}
        if parts.path == "/events":
            self._task = asyncio.create_task(self._events(query["n"], query["every_us"]))
        elif parts.path == "/bytes":
            self._task = asyncio.create_task(self._bytes(query["n"]))
        else:
            body = b'{"received": %d}' % self._received
            length = b"content-length: %d\r\n" % len(body)
            self._transport.write(HEAD % (b"application/json", length) + body)

    async def _events(self, count: int, every_us: int) -> None:
        loop = asyncio.get_running_loop()
        self._transport.write(
            HEAD
            % (b"text/event-stream", b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n")
        )
        # Streams start at different times, and so do their events.
        due_s = loop.time() + id(self) // 64 % 1000 / 1000 * every_us / 1e6
        for _ in range(count):
            due_s += every_us / 1e6
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            event = TOKEN % monotonic_ns()
            self._transport.write(CHUNK_OF_EVENT % (len(event), event))
            await self._can_write.wait()
        self._transport.write(b"0\r\n\r\n")

    async def _bytes(self, count: int) -> None:
        length = b"content-length: %d\r\n" % count
        self._transport.write(HEAD % (b"application/octet-stream", length))
        while count:
            block = BLOCK[:count]
            self._transport.write(block)
            count -= len(block)
            await self._can_write.wait()


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        Upstream, "127.0.0.1", port, backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
