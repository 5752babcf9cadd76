"""Clients that vanish, dawdle or stop reading: every exchange ends once, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import pytest

from gateway.downstream import Downstream
from gateway.exchange import Exchange
from gateway.record import OUTCOMES
from gateway.settings import ClientSettings, LimitSettings, TimeoutSettings
from gateway.upstream import Upstream

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CODED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
PATIENT = TimeoutSettings(connect_s=5, first_byte_s=30, idle_s=30)
MEGABYTE = 1024 * 1024

SENT = {
    "nothing": (b"", 0),
    "half a head": (HEAD[:-4], 0),
    "a head": (HEAD + b"Content-Length: 100\r\n\r\n", 0),
    "half a body": (HEAD + b"Content-Length: 100\r\n\r\nhalf", 1),
    "half a chunk": (CODED + b"64\r\nhalf", 1),
    "a chunk": (CODED + b"4\r\nhalf\r\n", 1),
    "half the trailers": (CODED + b"4\r\nhalf\r\n0\r\nX: ", 1),
    "a request": (GET, 1),
    "a request and a half": (GET + HEAD[:-4], 1),
    "three requests": (GET * 3, 1),
    "a request to switch": (
        GET[:-2] + b"Connection: upgrade\r\nUpgrade: x\r\n\r\n" + b"early", 1,
    ),
}  # fmt: skip


def alive() -> int:
    """Connections and exchanges that are still in memory."""
    gc.collect()
    return sum(isinstance(each, Downstream | Upstream | Exchange) for each in gc.get_objects())


async def hang(reader, writer):
    await reader.read()


async def come_and_go(world, sent, exchanges, how, count=5):
    """`count` clients send the same and vanish, while the upstream has not answered."""
    clients = [await world.client() for _ in range(count)]
    await world.until(lambda: world.proxy.connections == count)
    for client in clients:
        await client.send(sent)
    await world.until(lambda: world.proxy.in_flight == count * exchanges)
    for client in clients:
        if how == "half closes":
            client.writer.write_eof()
        elif how == "resets":
            client.reset()
        else:
            client.close()
    await world.nothing_left()


@pytest.mark.parametrize("how", ["closes", "resets", "half closes"])
@pytest.mark.parametrize("case", SENT)
async def test_a_client_that_vanishes_is_neutral_and_the_upstream_is_let_go(world, case, how):
    sent, exchanges = SENT[case]
    upstream = await world.upstream(hang)
    await world.gateway(upstream.url, timeouts=PATIENT)
    await come_and_go(world, sent, exchanges, how)
    ends = [(OUTCOMES[record.outcome], record.status) for record in world.spool.records]
    assert ends == [("cancelled", 499)] * 5 * exchanges
    assert world.proxy.arms("rag")["stable"].errors == 0
    await world.until(lambda: upstream.ended == upstream.connections)


async def test_no_connection_task_or_exchange_is_left_of_clients_that_vanished(world):
    upstream = await world.upstream(hang)
    await world.gateway(upstream.url, timeouts=PATIENT)
    before, tasks_before = alive(), len(asyncio.all_tasks())
    for how in ("closes", "resets"):
        for sent, exchanges in SENT.values():
            await come_and_go(world, sent, exchanges, how, count=2)
    await world.until(lambda: upstream.ended == upstream.connections)
    await world.until(lambda: len(asyncio.all_tasks()) <= tasks_before)
    world.spool.records.clear()
    assert alive() <= before


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
async def test_a_client_that_vanishes_within_an_answer(world, reset):
    """After it has read the head and a part; the upstream is let go, and nobody is to blame."""

    async def flood(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    upstream = await world.upstream(flood)
    await world.gateway(upstream.url, timeouts=PATIENT)
    for _ in range(3):
        client = await world.client()
        await client.send(GET)
        async with asyncio.timeout(5):
            await client.reader.readexactly(100_000)
        client.reset() if reset else client.close()
        await world.nothing_left()
    assert [(OUTCOMES[r.outcome], r.status) for r in world.spool.records] == [
        ("cancelled", 499)
    ] * 3
    await world.until(lambda: upstream.ended == 3)


async def test_a_client_that_dawdles_over_a_head_is_told_so(world):
    """The deadline comes from the sweep; here it is called at once."""
    upstream = await world.upstream()
    await world.gateway(upstream.url)
    client = await world.client()
    for part in (b"GET / HTT", b"P/1.1\r\nHost"):
        await client.send(part)
        await world.until(lambda: bool(world.connections and world.connections[0]._head_bytes))
    [connection] = world.connections
    assert 0 < connection.deadline_ns - connection.read_ns <= 10_000_000_000
    connection.on_deadline()
    status, headers, _ = await client.answer()
    assert (status, headers["connection"]) == (408, "close")
    assert await client.rest() == b""
    assert upstream.heads == []


async def test_a_client_that_sends_slowly_but_steadily_is_served(world):
    """Longer in all than the idle timeout, which is between two pieces."""
    upstream = await world.upstream()
    await world.gateway(upstream.url, timeouts=TimeoutSettings(idle_s=0.3, first_byte_s=5))
    client = await world.client()
    await client.send(HEAD + b"Content-Length: 10\r\n\r\n")
    for _ in range(10):
        await asyncio.sleep(0.05)
        await client.send(b"x")
    assert (await client.answer())[0] == 200
    assert upstream.bodies == [b"x" * 10]


async def test_too_many_connections_are_turned_away_and_told_so(world):
    upstream = await world.upstream()
    limits = LimitSettings(connections=3)
    await world.gateway(upstream.url, clients=ClientSettings(limits=limits))
    kept = []
    for _ in range(3):
        kept.append(await world.client())
        await kept[-1].send(GET)
        assert (await kept[-1].answer())[0] == 200
    for _ in range(2):
        client = await world.client()
        await client.send(GET)
        status, headers, _ = await client.answer()
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        assert await client.rest() == b""
        client.close()
    assert world.proxy.refused == {503: 2}
    await kept[0].send(GET)
    assert (await kept[0].answer())[0] == 200
    kept.pop().close()
    await world.until(lambda: world.proxy.connections == 2)
    client = await world.client()
    await client.send(GET)
    assert (await client.answer())[0] == 200


async def test_100_mb_both_ways_through_a_slow_reader_and_a_slow_writer_in_bounded_memory(world):
    """The client sends and does not read, until nothing moves; then it reads all of it."""
    total = 100 * MEGABYTE
    piece = b"z" * 65536
    ended = asyncio.Event()

    async def accept(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    await world.gateway(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeouts=PATIENT)
    client = await world.client()
    await client.send(HEAD + b"Content-Length: %d\r\n\r\n" % total)
    sent = 0

    async def upload():
        nonlocal sent
        while sent < total:
            client.writer.write(piece)
            await client.writer.drain()
            sent += len(piece)

    tracemalloc.start()
    try:
        uploading = asyncio.ensure_future(upload())
        before = -1
        async with asyncio.timeout(20):
            while sent == 0 or sent != before:
                before = sent
                await asyncio.sleep(0.05)
        assert sent < total // 2  # what the sockets on the way hold
        async with asyncio.timeout(60):
            await client.reader.readuntil(b"\r\n\r\n")
            left = total
            while left:
                left -= len(await client.reader.read(65536))
            await uploading
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        server.close()
    assert peak < 8 * MEGABYTE
    (record,) = await world.records(1)
    assert (record.request_bytes, record.response_bytes) == (total, total)
    assert record.request_body_cut
    assert record.response_body_cut
    await world.proxy.drain(0)
    async with asyncio.timeout(5):
        await ended.wait()
