"""Requests that come before the one ahead of them is answered."""

from __future__ import annotations

import asyncio

CHUNKED = (
    b"POST /query HTTP/1.1\r\nHost: rag\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\n\r\n"
)


async def test_pipelined_requests_are_answered_in_order(world):
    async def echo_path(reader, writer):
        path = upstream.heads[-1].split(b" ")[1]
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(path), path))

    upstream = await world.upstream(echo_path)
    await world.gateway(upstream.url)
    client = await world.client()
    paths = [f"/{number}" for number in range(20)]
    await client.send("".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n" for path in paths).encode())
    assert [(await client.answer())[2].decode() for _ in paths] == paths
    await world.records(20)


async def test_a_request_behind_a_chunked_one_adds_nothing_to_its_body(world):
    """The body has ended, and the upstream was told so: what comes next is the next request's."""
    may_answer = asyncio.Event()

    async def answer(reader, writer):
        await may_answer.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    upstream = await world.upstream(answer)
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(CHUNKED)
    await world.until(lambda: len(upstream.heads) == 1)
    (connection,) = world.connections
    until_ns = connection.deadline_ns
    await client.send(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n")
    await world.until(lambda: len(connection.queue) == 1)
    assert connection.deadline_ns == until_ns  # nor does it give the upstream more time
    may_answer.set()
    assert [(await client.answer())[0] for _ in range(2)] == [200, 200]
    assert [head.split(b" ")[1] for head in upstream.heads] == [b"/query", b"/b"]
    assert upstream.connections == 1


async def test_more_pipelined_requests_than_are_queued_close_after_those_taken(world):
    upstream = await world.upstream()
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 200)
    answers = (await client.rest()).count(b"HTTP/1.1 200 OK")
    assert answers == 65
    await world.records(65)
