"""What breaks: the upstream, the client, the rules. One record each, never a false end."""

from __future__ import annotations

import asyncio

import pytest

from gateway.record import OUTCOMES
from gateway.settings import RetrySettings, TimeoutSettings

POST = b"POST /query HTTP/1.1\r\nHost: rag\r\nx-user-id: u1\r\nContent-Length: 5\r\n\r\nhello"


def outcome(record):
    return OUTCOMES[record.outcome], OUTCOMES[record.first_attempt_outcome]


async def closing(reader, writer):
    writer.close()


async def hanging(reader, writer):
    await asyncio.sleep(30)


async def garbage(reader, writer):
    writer.write(b"220 smtp.example ESMTP\r\n")


async def half_a_head(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-le")
    await writer.drain()
    writer.close()


async def framed_twice(reader, writer):
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    )


async def coded(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n")


async def switching(reader, writer):
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")


async def endless_head(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nx: %b" % (b"a" * 100_000))


@pytest.mark.parametrize(
    ("handler", "status", "expected"),
    [
        (closing, 502, "reset"),
        (hanging, 504, "timeout"),
        (garbage, 502, "reset"),
        (half_a_head, 502, "reset"),
        (framed_twice, 502, "reset"),
        (coded, 502, "reset"),
        (switching, 502, "reset"),
        (endless_head, 502, "reset"),
    ],
)
async def test_an_upstream_without_a_whole_head_is_a_bad_gateway(world, handler, status, expected):
    upstream = await world.upstream(handler)
    await world.gateway(upstream.url, retry=RetrySettings(attempts=1))
    client = await world.client()
    await client.send(POST)
    answered, headers, body = await client.answer()
    assert answered == status
    assert b'"error"' in body
    assert headers["x-request-id"]
    (record,) = await world.records(1)
    assert outcome(record) == (expected, expected)
    assert (record.status, record.response_body) == (status, body)


async def test_a_refused_connection_is_a_bad_gateway_with_retry_after(world, unused_tcp_port):
    await world.gateway(f"http://127.0.0.1:{unused_tcp_port}")
    client = await world.client()
    for _ in range(5):
        await client.send(POST)
        status, headers, _ = await client.answer()
        assert (status, headers["retry-after"]) == (502, "1")
    assert {outcome(record) for record in await world.records(5)} == {
        ("upstream_error", "upstream_error")
    }
    (health,) = world.proxy.upstreams("rag")["stable"]
    assert not health.healthy
    assert health.reason


@pytest.mark.parametrize("host", ["a..b", "a" * 64], ids=["empty label", "long label"])
async def test_a_name_that_cannot_be_looked_up_is_a_bad_gateway_again_and_again(world, host):
    await world.gateway(f"http://{host}:80", timeouts=TimeoutSettings(connect_s=5))
    client = await world.client()
    for _ in range(3):
        await client.send(POST)
        assert (await client.answer())[0] == 502
    (endpoint,) = world.proxy._endpoints.values()
    assert endpoint.dialing == 0
    (health,) = world.proxy.upstreams("rag")["stable"]
    assert "label" in health.reason


@pytest.mark.parametrize("ending", ["length", "chunked", "reset"])
async def test_an_answer_cut_short_is_never_passed_off_as_complete(world, ending):
    async def cut(reader, writer):
        framing = b"transfer-encoding: chunked\r\n\r\n4\r\npart\r\n"
        if ending != "chunked":
            framing = b"content-length: 100\r\n\r\npart"
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing)
        await writer.drain()
        await asyncio.sleep(0.05)
        if ending == "reset":
            writer.transport.abort()
        else:
            writer.close()

    upstream = await world.upstream(cut)
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(POST)
    answer = await client.rest()
    assert b"part" in answer or answer == b"(reset)"
    assert not answer.endswith(b"0\r\n\r\n")
    (record,) = await world.records(1)
    assert outcome(record) == ("truncated", "truncated")
    assert record.status == 200


async def test_a_stream_that_falls_silent_is_cut(world):
    async def silent(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart")
        await asyncio.sleep(30)

    upstream = await world.upstream(silent)
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(POST)
    answer = await client.rest()
    assert answer.partition(b"\r\n\r\n")[2] == b"part" or answer == b"(reset)"
    (record,) = await world.records(1)
    assert outcome(record) == ("truncated", "truncated")


async def test_a_client_that_goes_away_is_neutral_and_the_upstream_is_let_go(world):
    gone = asyncio.Event()

    async def wait_for_end(reader, writer):
        await reader.read()
        gone.set()

    upstream = await world.upstream(wait_for_end)
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(POST)
    async with asyncio.timeout(5):
        while not upstream.heads:
            await asyncio.sleep(0.005)
        client.close()
        await gone.wait()
    (record,) = await world.records(1)
    assert outcome(record) == ("cancelled", "cancelled")
    assert record.status == 499
    assert world.proxy.arms("rag")["stable"].cancelled == 1


async def test_a_kept_connection_that_was_closed_is_no_error(world):
    async def answer_and_leave(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        request = await reader.readuntil(b"hello")
        assert request
        writer.close()

    upstream = await world.upstream(answer_and_leave)
    await world.gateway(upstream.url, retry=RetrySettings(attempts=1))
    client = await world.client()
    for _ in range(2):
        await client.send(POST)
        assert (await client.answer())[0] == 200
    assert upstream.connections == 2
    records = await world.records(2)
    assert [(outcome(record), record.attempts) for record in records] == [(("ok", "ok"), 1)] * 2


async def test_a_canary_that_refuses_fails_over_to_stable_and_is_charged(world, unused_tcp_port):
    stable = await world.upstream()
    await world.gateway(stable.url, canary=f"http://127.0.0.1:{unused_tcp_port}", share_bp=9500)
    client = await world.client()
    for _ in range(10):
        await client.send(POST)
        status, headers, _ = await client.answer()
        assert (status, headers["x-served-by"]) == (200, "stable;1")
    for record in await world.records(10):
        assert outcome(record) == ("ok", "upstream_error")
        assert record.attempts == 2
        assert b'"arm":"canary","served_arm":"stable","version":"1"' in record.stamp
    arms = world.proxy.arms("rag")
    assert (arms["canary"].requests, arms["canary"].errors) == (10, 10)
    assert arms["stable"].requests == 0
    assert stable.bodies == [b"hello"] * 10


@pytest.mark.parametrize("answer", [closing, b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n"])
async def test_a_canary_that_fails_is_retried_on_stable_within_the_budget(world, answer):
    stable, canary = await world.upstream(), await world.upstream(answer)
    await world.gateway(
        stable.url,
        canary=canary.url,
        share_bp=9500,
        retry=RetrySettings(budget_percent=0.001),
    )
    client = await world.client()
    statuses = []
    for _ in range(14):
        await client.send(POST)
        statuses.append((await client.answer())[0])
    assert statuses.count(200) in (10, 11)
    records = await world.records(14)
    charged = {OUTCOMES[record.first_attempt_outcome] for record in records}
    assert charged == ({"reset"} if answer is closing else {"upstream_error"})
    assert world.proxy.arms("rag")["canary"].errors == 14


async def test_an_error_status_is_passed_on_and_counted(world):
    upstream = await world.upstream(
        b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 429 X\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n",
    )
    await world.gateway(upstream.url)
    client = await world.client()
    for expected in (500, 429, 404):
        await client.send(POST)
        assert (await client.answer())[0] == expected
    assert [outcome(record)[0] for record in await world.records(3)] == [
        "upstream_error",
        "upstream_error",
        "client_error",
    ]


async def test_a_client_that_does_not_read_slows_the_upstream_down(world):
    sent = 0
    chunk = b"x" * 65536

    async def flood(reader, writer):
        nonlocal sent
        writer.transport.set_write_buffer_limits(high=65536)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (len(chunk) * 2000))
        for _ in range(2000):
            writer.write(chunk)
            await writer.drain()
            sent += len(chunk)

    upstream = await world.upstream(flood)
    await world.gateway(upstream.url)
    client = await world.client()
    client.writer.transport.pause_reading()
    await client.send(POST)
    before = -1
    async with asyncio.timeout(5):
        while sent == 0 or sent != before:
            before = sent
            await asyncio.sleep(0.1)
    assert sent < 32 * 1024 * 1024  # what socket buffers hold, not the 131 MB of the answer
    (record,) = await world.records(1)  # nothing moved for the idle timeout: the client is to blame
    assert outcome(record) == ("cancelled", "cancelled")
    assert len(record.response_body) == 64 * 1024
    assert record.response_body_cut


async def test_an_upstream_that_does_not_read_slows_the_client_down(world):
    server_reader = asyncio.Event()

    async def accept(reader, writer):
        reader._transport.pause_reading()
        await server_reader.wait()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await world.gateway(f"http://127.0.0.1:{port}")
    client = await world.client()
    total = 256 * 1024 * 1024
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % total)
    sent = 0

    async def upload():
        nonlocal sent
        while sent < total:
            client.writer.write(b"y" * 65536)
            await client.writer.drain()
            sent += 65536

    uploading = asyncio.ensure_future(upload())
    try:
        status, _, _ = await client.answer()
    finally:
        uploading.cancel()
        await asyncio.gather(uploading, return_exceptions=True)
        server_reader.set()
        server.close()
    assert status == 504
    assert sent < 64 * 1024 * 1024
    (record,) = await world.records(1)
    assert outcome(record) == ("timeout", "timeout")
    assert len(record.request_body) == 64 * 1024


async def test_a_body_that_stops_coming_is_the_clients_fault(world):
    upstream = await world.upstream()
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\npart")
    assert (await client.answer())[0] == 408
    (record,) = await world.records(1)
    assert (outcome(record)[0], record.status) == ("cancelled", 408)
