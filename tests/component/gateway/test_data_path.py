"""Requests and answers through real sockets, on both loops."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import uvloop

from gateway.listening import BACKLOG
from gateway.record import OUTCOMES
from gateway.settings import TimeoutSettings
from mlops.contracts.plan import Slot

POST = b"POST /query HTTP/1.1\r\nHost: rag\r\nx-user-id: u1\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /query HTTP/1.1\r\nHost: rag\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\n\r\n"
)


@pytest.mark.parametrize("one_by_one", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize("request_bytes", [POST, CHUNKED], ids=["length", "chunked"])
async def test_a_request_is_passed_on_and_answered(world, request_bytes, one_by_one):
    upstream = await world.upstream()
    await world.gateway(upstream.url)
    client = await world.client()
    for _ in range(2):
        await client.send(request_bytes, one_by_one=one_by_one)
        status, headers, body = await client.answer()
        assert (status, body) == (200, b"ok")
        assert headers["x-served-by"] == "stable;1"
        assert headers["x-request-id"].encode() in upstream.heads[-1]
    assert upstream.bodies == [b"hello", b"hello"]
    assert upstream.connections == 1
    assert b"Host: rag\r\n" in upstream.heads[0]
    records = await world.records(2)
    assert [record.request_body for record in records] == [b"hello"] * 2
    assert {record.response_body for record in records} == {b"ok"}
    assert {(r.outcome, r.status, r.attempts, r.request_bytes) for r in records} == {(0, 200, 1, 5)}
    assert len({record.request_id for record in records}) == 2


async def test_head_has_no_body_and_the_connections_are_kept(world):
    upstream = await world.upstream(
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\netag: x\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    status, headers, _ = await client.answer(no_body=True)
    assert (status, headers["content-length"]) == (200, "100")
    for expected in (304, 204, 200):
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        status, _, body = await client.answer()
        assert status == expected
    assert body == b"ok"
    assert upstream.connections == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            b"abc",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
    ],
    ids=["chunked", "interim answer", "empty"],
)
async def test_answers_of_every_framing(world, answer, expected):
    upstream = await world.upstream(answer)
    await world.gateway(upstream.url)
    client = await world.client()
    for _ in range(2):
        await client.send(POST)
        assert (await client.answer())[2] == expected
    assert upstream.connections == 1


async def test_an_answer_delimited_by_the_close_becomes_chunked(world):
    async def close(reader, writer):
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
        await writer.drain()
        writer.close()

    upstream = await world.upstream(close)
    await world.gateway(upstream.url)
    client = await world.client()
    for _ in range(2):
        await client.send(POST)
        _, headers, body = await client.answer()
        assert (headers["transfer-encoding"], body) == ("chunked", b"until the end")
    records = await world.records(2)
    assert [record.outcome for record in records] == [0, 0]


async def test_http_1_0_gets_no_chunks_and_a_close(world):
    upstream = await world.upstream(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    head, _, body = (await client.rest()).partition(b"\r\n\r\n")
    assert body == b"abc"
    assert b"connection: close" in head
    assert b"transfer-encoding" not in head
    assert b"host: 127.0.0.1" in upstream.heads[0]


async def test_connection_close_is_answered_and_closed(world):
    upstream = await world.upstream()
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\n")
    answer = await client.rest()
    assert answer.count(b"HTTP/1.1") == 1
    assert b"connection: close" in answer
    assert len(upstream.heads) == 1


async def test_expect_continue_is_answered_before_the_body(world):
    upstream = await world.upstream()
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    assert (await client.answer())[0] == 100
    await client.send(b"hi")
    assert (await client.answer())[0] == 200
    assert upstream.bodies == [b"hi"]
    assert b"xpect" not in upstream.heads[0]


async def test_hop_by_hop_headers_stay_on_their_connection(world):
    upstream = await world.upstream(
        b"HTTP/1.1 200 OK\r\nconnection: keep-alive, x-inner\r\nkeep-alive: 5\r\nx-inner: 1\r\n"
        b"x-outer: 2\r\ncontent-length: 0\r\n\r\n"
    )
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x-secret, content-type, host\r\n"
        b"X-Secret: 1\r\nX-Kept: 2\r\nTE: trailers\r\nUpgrade: h2c\r\nContent-Type: a/b\r\n"
        b"traceparent: 00-a-b-01\r\nX-Request-Id: mine\r\n\r\n"
    )
    _, headers, _ = await client.answer()
    assert headers == {
        "x-outer": "2",
        "content-length": "0",
        "x-served-by": "stable;1",
        "x-request-id": "mine",
    }
    lines = upstream.heads[0].split(b"\r\n")[1:]
    assert sorted(line for line in lines if line) == [
        b"Content-Type: a/b",
        b"Host: a",
        b"X-Kept: 2",
        b"connection: te",
        b"te: trailers",
        b"traceparent: 00-a-b-01",
        b"x-forwarded-for: 127.0.0.1",
        b"x-forwarded-host: a",
        b"x-forwarded-proto: http",
        b"x-request-id: mine",
    ]


async def test_slot_headers_replace_what_the_client_sent(world):
    upstream = await world.upstream()
    await world.gateway(upstream.url)
    slot = Slot(version="9", endpoints=(upstream.url,), headers={"Authorization": "Bearer ours"})
    world.apply(generation=2, stable=slot)
    client = await world.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer theirs\r\n\r\n")
    _, headers, _ = await client.answer()
    assert headers["x-served-by"] == "stable;9"
    assert upstream.heads[0].count(b"uthorization") == 1
    assert b"Authorization: Bearer ours\r\n" in upstream.heads[0]


async def test_server_sent_events_pass_unbuffered_and_are_counted(world):
    ticks = asyncio.Queue()

    async def stream(reader, writer):
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        while (event := await ticks.get()) is not None:
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        writer.write(b"0\r\n\r\n")

    upstream = await world.upstream(stream)
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(POST)
    async with asyncio.timeout(5):
        await client.reader.readuntil(b"\r\n\r\n")
        for event in (b"data: 0\n\n", b": alive\n\n", b"data: 1\n\n", b"data: ", b"2\n\n"):
            ticks.put_nowait(event)
            assert await client.reader.readuntil(event + b"\r\n")
        ticks.put_nowait(None)
        assert await client.reader.readuntil(b"0\r\n\r\n")
    (record,) = await world.records(1)
    assert record.events == 3
    assert 0 < record.first_event_us <= record.latency_us
    assert record.max_event_gap_us > 0
    assert record.response_bytes == 36


async def test_drain_lets_a_request_finish_and_closes_idle_connections(world):
    release = asyncio.Event()

    async def slow(reader, writer):
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    upstream = await world.upstream(slow)
    await world.gateway(upstream.url)
    idle, busy = await world.client(), await world.client()
    await busy.send(POST)
    async with asyncio.timeout(5):
        while not upstream.heads:
            await asyncio.sleep(0.005)
        draining = asyncio.ensure_future(world.proxy.drain(5))
        assert await idle.rest() == b""
        release.set()
        status, headers, _ = await busy.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await draining == 0


async def test_the_tally_counts_answered_and_dropped_and_in_flight(world):
    upstream = await world.upstream()
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(POST)
    await client.answer()
    world.spool.accepts = False
    await client.send(POST)
    await client.answer()
    second = world.spool.records[0].ended_at_us // 1_000_000 + 1
    tally = world.proxy.take_tally(second)
    (entry,) = tally.entries
    assert (entry.route, entry.arm, entry.generation) == ("rag", "stable", 1)
    assert (entry.answered, entry.dropped) == (2, {"spool_full": 1})
    assert world.proxy.take_tally(second + 1).entries == ()
    world.spool.accepts = True
    await client.send(POST)
    await client.answer()
    assert world.spool.records[-1].ended_at_us // 1_000_000 == second + 2


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_large_bodies_stream_through_both_ways_unchanged(world, chunked):
    async def echo(reader, writer):
        body = upstream.bodies[-1]
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
        writer.write(body)
        await writer.drain()

    upstream = await world.upstream(echo)
    await world.gateway(upstream.url)
    client = await world.client()
    body = bytes(range(256)) * 16 * 1024
    head = b"POST / HTTP/1.1\r\nHost: a\r\n"
    for _ in range(2):
        if chunked:
            await client.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for start in range(0, len(body), 100_000):
                part = body[start : start + 100_000]
                await client.send(b"%x\r\n%b\r\n" % (len(part), part))
            await client.send(b"0\r\n\r\n")
        else:
            await client.send(head + b"Content-Length: %d\r\n\r\n" % len(body))
            await client.send(body)
        assert (await client.answer())[2] == body
    for record in await world.records(2):
        assert (record.request_bytes, record.response_bytes) == (len(body), len(body))
        assert record.request_body == record.response_body == body[: 64 * 1024]
        assert record.request_body_cut


async def test_an_early_answer_closes_the_connection_after_it(world):
    async def accept(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 X\r\ncontent-length: 2\r\n\r\nno")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    await world.gateway(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    client = await world.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\npart")
    status, headers, body = await client.answer()
    assert (status, headers["connection"], body) == (413, "close", b"no")
    assert await client.rest() == b""
    server.close()
    (record,) = await world.records(1)
    assert (OUTCOMES[record.outcome], record.status) == ("client_error", 413)


async def test_as_many_connections_wait_to_be_accepted_as_the_socket_was_opened_for(world):
    """The loop's servers call `listen` again, with a queue of 100 unless told otherwise."""
    await world.gateway("http://127.0.0.1:9")
    most = int(Path("/proc/sys/net/core/somaxconn").read_text())
    for acceptor in world.proxy._acceptors.values():
        info = acceptor._listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        assert struct.unpack_from("I", info, 28) == (min(BACKLOG, most),)


@contextmanager
def connected(world, count):
    """So many clients, in the gateway's queue or past it."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", world.address.port)))
            for _ in range(count)
        ]


def post(clients):
    for client in clients:
        client.sendall(POST)
        client.setblocking(False)


async def all_answered(clients):
    loop = asyncio.get_running_loop()
    for client in clients:
        assert (await loop.sock_recv(client, 4096)).startswith(b"HTTP/1.1 200 OK")


async def test_a_queue_of_clients_is_taken_in_within_a_few_turns_of_the_loop(world):
    """libuv alone accepts one in each turn; the loop is slow while many connections are busy."""
    upstream = await world.upstream()
    patient = TimeoutSettings(connect_s=30, first_byte_s=30, idle_s=30)  # 200 dials at once
    await world.gateway(upstream.url, timeouts=patient)
    with connected(world, 200) as clients:
        turns = 0
        while len(world.connections) < len(clients):
            await asyncio.sleep(0)
            turns += 1
            assert turns < 50, f"{len(world.connections)} of {len(clients)} after {turns} turns"
        post(clients)
        await all_answered(clients)
    await world.records(len(clients))
    await world.nothing_left()


async def test_whoever_had_connected_before_the_end_is_answered(world):
    if not isinstance(asyncio.get_running_loop(), uvloop.Loop):
        pytest.skip("asyncio does not say whom it is taking in; workers run on uvloop")
    upstream = await world.upstream()
    await world.gateway(upstream.url)
    with connected(world, 100) as clients:
        post(clients)
        await world.proxy.accept_waiting()
        assert len(world.connections) == len(clients)
        await world.proxy.listen(())
        assert await world.proxy.drain(5, 0.2) == 0
        await all_answered(clients)
    await world.records(len(clients))
