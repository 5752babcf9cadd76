"""Clients that go away, on the runner that the process serves with: a test server cancels its
handlers whatever that one does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
from aiohttp import web

from mlops.serving.app import ModelServer
from mlops.serving.batching import Embedded
from mlops.serving.process import runner_of
from mlops.serving.versions import Versions


class Slow:
    """A model whose calls wait until they may go on."""

    name, version, snapshot, dimension = "m", "1.0.0", "m-1.0.0", None

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.may_go_on = threading.Event()

    def warm_up(self) -> None:
        self.calls.append(["warm up"])
        assert self.may_go_on.wait(30)

    def embed_many(self, texts: Sequence[str], side: str = "document") -> list[Embedded]:
        self.calls.append(list(texts))
        assert self.may_go_on.wait(30)
        return [(np.zeros(1, np.float32), 1) for _ in texts]


@asynccontextmanager
async def serving(server: ModelServer) -> AsyncIterator[int]:
    runner = runner_of(server.application())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def ask(port: int, path: str, body: object) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    content = msgspec.json.encode(body)
    head = f"POST {path} HTTP/1.1\r\nHost: m\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    return writer


async def until(server: ModelServer, in_flight: int) -> None:
    async with asyncio.timeout(20):
        while server._metrics.in_flight._value.get() != in_flight:
            await asyncio.sleep(0.01)


async def test_texts_of_a_client_that_went_away_are_not_embedded() -> None:
    model = Slow()
    versions = Versions(lambda _: model, lambda *_: Path())
    versions.serving = model
    server = ModelServer(versions)
    async with serving(server) as port:
        first = await ask(port, "/v1/embeddings", {"model": "m", "input": "first"})
        await until(server, 1)
        gone = await ask(port, "/v1/embeddings", {"model": "m", "input": "gone"})
        await until(server, 2)
        gone.close()
        await until(server, 1)
        model.may_go_on.set()
        await until(server, 0)
        first.close()
    assert model.calls == [["first"]]


async def test_a_load_goes_on_without_its_client() -> None:
    """Else the servers of a pool would come to serve what depends on when somebody gave up."""
    model = Slow()
    versions = Versions(lambda _: model, lambda *_: Path())
    server = ModelServer(versions)
    async with serving(server) as port:
        asked = await ask(port, "/admin/models", {"model": "m", "version": "1.0.0"})
        async with asyncio.timeout(20):
            while not model.calls:
                await asyncio.sleep(0.01)
        asked.close()
        await until(server, 0)
        model.may_go_on.set()
        async with asyncio.timeout(20):
            while versions.serving is None:
                await asyncio.sleep(0.01)
    assert versions.loaded == ["1.0.0"]
