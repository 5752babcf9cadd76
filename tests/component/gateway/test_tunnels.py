"""A switch of protocols: bytes both ways until one side ends, recorded once, bounded everywhere."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
import websockets
from websockets.asyncio.server import serve

from gateway.record import OUTCOMES
from gateway.settings import RetrySettings, TimeoutSettings

ASK = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nx-user-id: u1\r\nConnection: keep-alive, Upgrade\r\n"
    b"Upgrade: echo\r\nSec-WebSocket-Key: kept\r\n\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\nX-More: 1\r\n\r\n"
)
GET = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


async def echo(reader, writer):
    """Switches, then gives back what comes, until the end."""
    writer.write(SWITCHED)
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"(end)")
    await writer.drain()
    writer.close()


async def switched(world, client):
    async with asyncio.timeout(5):
        head = await client.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\nX-More: 1\r\n")
    assert b"connection: upgrade\r\nupgrade: echo\r\nx-served-by: stable;1\r\n" in head
    return head


async def exactly(client, size):
    async with asyncio.timeout(10):
        return await client.reader.readexactly(size)


@pytest.mark.parametrize("early", [b"", b"at once"], ids=["after the answer", "with the request"])
async def test_bytes_pass_both_ways_and_a_half_close_is_passed_on(world, early):
    upstream = await world.upstream(echo)
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(ASK + early)
    await switched(world, client)
    assert await exactly(client, len(early)) == early
    for number in range(3):
        await client.send(b"hello %d" % number)
        assert await exactly(client, 7) == b"hello %d" % number
    assert world.proxy.in_flight == 1
    client.writer.write_eof()
    assert await client.rest() == b"(end)"
    (record,) = await world.records(1)
    assert (OUTCOMES[record.outcome], record.status, record.attempts) == ("ok", 101, 1)
    assert (record.request_bytes, record.response_bytes) == (21 + len(early), 26 + len(early))
    assert b"connection: upgrade\r\nupgrade: echo\r\n" in upstream.heads[0]
    assert b"Sec-WebSocket-Key: kept\r\n" in upstream.heads[0]
    await world.nothing_left()


async def test_what_follows_a_refused_switch_is_the_next_request(world):
    upstream = await world.upstream()
    await world.gateway(upstream.url)
    client = await world.client()
    for rest in (GET, b""):
        await client.send(ASK + rest)
        answers = [await client.answer() for _ in range(2 if rest else 1)]
        assert [status for status, _, _ in answers] == [200] * len(answers)
    await client.send(GET)
    assert (await client.answer())[0] == 200
    assert [head.split(b" ")[1] for head in upstream.heads] == [
        b"/chat",
        b"/next",
        b"/chat",
        b"/next",
    ]
    await world.records(4)


async def test_a_large_stream_through_a_slow_reader_is_held_back(world):
    sent = 0

    async def flood(reader, writer):
        nonlocal sent
        writer.write(SWITCHED)
        for _ in range(1000):
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536
        writer.close()

    upstream = await world.upstream(flood)
    await world.gateway(upstream.url, timeouts=TimeoutSettings(idle_s=30))
    client = await world.client()
    await client.send(ASK)
    await switched(world, client)
    client.writer.transport.pause_reading()
    before = -1
    async with asyncio.timeout(5):
        while sent == 0 or sent != before:
            before = sent
            await asyncio.sleep(0.05)
    assert sent < 32 * 1024 * 1024  # what socket buffers hold
    client.writer.transport.resume_reading()
    async with asyncio.timeout(20):
        assert len(await client.reader.read()) == 1000 * 65536
    client.close()
    (record,) = await world.records(1)
    assert record.response_bytes == 1000 * 65536
    assert record.response_body == b""


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_a_reset_ends_the_tunnel_and_is_told_to_the_other_side(world, who):
    ended = asyncio.Event()

    async def reset(reader, writer):
        writer.write(SWITCHED)
        await reader.readexactly(2)
        if who == "upstream":
            writer.transport.abort()
        else:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        ended.set()

    upstream = await world.upstream(reset)
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(ASK)
    await switched(world, client)
    await client.send(b"go")
    if who == "client":
        client.reset()
    else:
        assert await client.rest() in (b"", b"(reset)")
    async with asyncio.timeout(5):
        await ended.wait()
    (record,) = await world.records(1)
    assert OUTCOMES[record.outcome] in ("ok", "cancelled" if who == "client" else "truncated")
    assert record.status == 101
    await world.nothing_left()


async def test_an_idle_tunnel_is_closed_and_nobody_is_to_blame(world):
    upstream = await world.upstream(echo)
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(ASK)
    await switched(world, client)
    assert await client.rest() == b""
    (record,) = await world.records(1)
    assert (OUTCOMES[record.outcome], record.status) == ("ok", 101)
    await world.nothing_left()


async def flood(reader, writer):
    """Switches, then sends more than all buffers on the way hold, until it cannot."""
    writer.write(SWITCHED)
    with suppress(OSError):
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()


async def test_a_client_that_no_longer_reads_holds_no_tunnel(world):
    upstream = await world.upstream(flood)
    await world.gateway(upstream.url)
    client = await world.client()
    client.writer.transport.pause_reading()
    await client.send(ASK)
    (record,) = await world.records(1)
    assert (OUTCOMES[record.outcome], record.status) == ("ok", 101)
    await world.nothing_left()


async def test_an_upstream_that_no_longer_reads_is_let_go_after_its_client(world):
    async def deaf(reader, writer):
        writer.transport.pause_reading()
        writer.write(SWITCHED)
        await asyncio.get_running_loop().create_future()

    upstream = await world.upstream(deaf)
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(ASK)
    await switched(world, client)
    with suppress(TimeoutError):  # all buffers on the way are full
        for _ in range(1000):
            client.writer.write(b"x" * 65536)
            await asyncio.wait_for(client.writer.drain(), 0.1)
    client.close()
    await world.records(1)
    await world.nothing_left()


async def test_a_drain_waits_for_a_tunnel_and_then_cuts_it(world):
    upstream = await world.upstream(echo)
    await world.gateway(upstream.url, timeouts=TimeoutSettings(idle_s=30))
    client = await world.client()
    await client.send(ASK)
    await switched(world, client)
    draining = asyncio.ensure_future(world.proxy.drain(0.3))
    await client.send(b"still")
    assert await exactly(client, 5) == b"still"
    assert await draining == 1
    assert await client.rest() in (b"", b"(reset)")
    (record,) = await world.records(1)
    assert OUTCOMES[record.outcome] == "cancelled"


@pytest.mark.parametrize(
    "answer",
    [
        SWITCHED.replace(b"Upgrade: echo", b"Upgrade: h2c"),
        SWITCHED.replace(b"Upgrade: echo\r\n", b""),
        SWITCHED.replace(b"Connection: upgrade\r\n", b""),
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
    ids=["another protocol", "no protocol", "no Connection", "nothing"],
)
async def test_a_switch_to_what_nobody_asked_for_is_a_bad_gateway(world, answer):
    upstream = await world.upstream(answer)
    await world.gateway(upstream.url, retry=RetrySettings(attempts=1))
    client = await world.client()
    await client.send(ASK)
    assert (await client.answer())[0] == 502
    (record,) = await world.records(1)
    assert OUTCOMES[record.outcome] == "reset"


async def test_a_switch_that_nobody_asked_for_is_a_bad_gateway(world):
    upstream = await world.upstream(SWITCHED)
    await world.gateway(upstream.url, retry=RetrySettings(attempts=1))
    client = await world.client()
    await client.send(GET)
    assert (await client.answer())[0] == 502


async def test_websockets_on_both_ends(world):
    async def talk(connection):
        async for message in connection:
            await connection.send(message[::-1])

    async with serve(talk, "127.0.0.1", 0, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        await world.gateway(f"http://127.0.0.1:{port}", timeouts=TimeoutSettings(idle_s=30))
        uri = f"ws://127.0.0.1:{world.address.port}/talk"
        async with asyncio.timeout(10), websockets.connect(uri, max_size=None) as client:
            assert client.response.headers["x-served-by"] == "stable;1"
            for message in ("hello", b"\0" * 3_000_000 + b"!", "ä" * 70_000):
                await client.send(message)
                assert await client.recv() == message[::-1]
            await (await client.ping())
    (record,) = await world.records(1)
    assert (OUTCOMES[record.outcome], record.status) == ("ok", 101)
    await world.nothing_left()
