"""Requests and answers like the ones before them: the quick way must be as strict as the first."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from gateway.proxy import Proxy
from gateway.routing import LivePlan
from gateway.settings import MatchSettings, RetrySettings, RouteSettings
from mlops.contracts.plan import RoutePlan, Slot

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\nok"
BODY = b'{"query_text": "why"}'


def post(
    path: bytes = b"/query", user: bytes = b"u1", body: bytes = BODY, more: bytes = b""
) -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nHost: h:1\r\nX-User-Id: %b\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n%b\r\n%b" % (path, user, len(body), more, body)
    )


def answer(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nDate: now\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


async def test_every_request_reaches_the_upstream_as_it_was_sent(world) -> None:
    """Users, lengths and paths change on one connection; the records say the same."""
    upstream = await world.upstream(OK)
    await world.gateway(upstream.url)
    client = await world.client()
    sent = [
        (b"/query", b"u1", BODY),
        (b"/query", b"u2", b"{}"),
        (b"/query", b"someone", b""),
        (b"/other", b"u2", b"{}"),
        (b"/query", b"u2", b"{}"),
        (b"/other", b"u3", BODY),
    ]
    for path, user, body in sent:
        await client.send(post(path, user, body))
        assert (await client.answer())[0] == 200
    assert upstream.bodies == [body for _, _, body in sent]
    assert [head.split(b" ")[1] for head in upstream.heads] == [path for path, _, _ in sent]
    for head, (_, user, body) in zip(upstream.heads, sent, strict=True):
        assert b"X-User-Id: %b\r\n" % user in head
        assert b"Content-Length: %d\r\n" % len(body) in head
        assert head.count(b"x-request-id: ") == 1
    records = world.spool.records
    assert [record.target for record in records] == [path for path, _, _ in sent]
    assert [record.request_body for record in records] == [body for _, _, body in sent]


async def test_the_clients_request_id_is_kept_each_time(world) -> None:
    upstream = await world.upstream(OK)
    await world.gateway(upstream.url)
    client = await world.client()
    for number in range(3):
        await client.send(post(more=b"X-Request-Id: mine-%d\r\n" % number))
        _, headers, _ = await client.answer()
        assert headers["x-request-id"] == f"mine-{number}"
        assert upstream.heads[-1].lower().count(b"x-request-id: mine-%d\r\n" % number) == 1


async def test_each_answer_has_its_own_status_and_length(world) -> None:
    """A 200 after a 500 is a 200: for the client, and in the record."""
    answers = [
        answer(status, body)
        for status, body in (
            (b"200 OK", b"one"),
            (b"200 OK", b"three"),
            (b"500 No", b"no"),
            (b"200 OK", b"two"),
            (b"404 No", b""),
            (b"200 OK", b"two"),
            (b"200 OK", b"two"),
        )
    ]
    upstream = await world.upstream(*answers)
    await world.gateway(upstream.url)
    client = await world.client()
    seen = []
    for _ in answers:
        await client.send(post())
        status, _, body = await client.answer()
        seen.append((status, body))
    assert seen == [
        (200, b"one"),
        (200, b"three"),
        (500, b"no"),
        (200, b"two"),
        (404, b""),
        (200, b"two"),
        (200, b"two"),
    ]
    assert [record.status for record in world.spool.records] == [s for s, _ in seen]


@pytest.mark.parametrize(
    "bad",
    [
        post(user=b"a\nTransfer-Encoding: chunked"),
        post(user=b"a\x00b"),
        post(user=b"a\rb"),
        post(more=b"Transfer-Encoding: chunked\r\n"),
        post(more=b"Content-Length: 3\r\n"),
        post(more=b"Host: two\r\n"),
        post(more=b" folded\r\n"),
        post().replace(b"Host:", b"Host :"),
        post().replace(b"Content-Length: ", b"Content-Length: +"),
        post(path=b"/query\x01"),
    ],
)
async def test_what_is_refused_at_first_is_refused_later_too(world, bad: bytes) -> None:
    """After two good requests of the same kind: 400, closed, nothing forwarded."""
    upstream = await world.upstream(OK)
    await world.gateway(upstream.url)
    client = await world.client()
    for user in (b"u1", b"u2"):
        await client.send(post(user=user))
        assert (await client.answer())[0] == 200
    await client.send(bad)
    status, _, _ = await client.answer()
    assert status == 400
    assert await client.rest() == b""
    assert len(upstream.heads) == 2


@pytest.mark.parametrize("cut", [1, 20, -2, len(BODY) - 3])
async def test_a_repeated_request_in_two_pieces_is_one_request(world, cut: int) -> None:
    """Cut in its first line, in a header, in its body, just before its last byte."""
    upstream = await world.upstream(OK)
    await world.gateway(upstream.url)
    client = await world.client()
    data = post()
    await client.send(data)
    await client.answer()
    for at in (cut, len(data) - len(BODY) - 1, len(data) - len(BODY) - 3):
        await client.send(data[:at])
        await asyncio.sleep(0)
        await client.send(data[at:])
        assert (await client.answer())[0] == 200
    assert upstream.bodies == [BODY] * 4


async def test_a_request_that_comes_while_an_answer_is_unread_is_answered(world) -> None:
    """The first answer is written whole, but taken late; the second waits for that, no longer."""
    upstream = await world.upstream(answer(b"200 OK", b"x" * 40_000), answer(b"200 OK", b"two"))
    await world.gateway(upstream.url)
    client = await world.client(receive_buffer_bytes=2048)
    await until(lambda: len(world.connections) == 1)
    [connection] = world.connections
    connection.transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_SNDBUF, 4096
    )
    connection.transport.set_write_buffer_limits(high=1024)
    client.writer.transport.pause_reading()
    await client.send(post())
    await until(lambda: connection.write_paused and connection.current is None)
    await client.send(post(user=b"u2"))
    await until(lambda: connection.current is not None)
    client.writer.transport.resume_reading()
    assert len((await client.answer())[2]) == 40_000
    assert (await client.answer())[2] == b"two"


async def until(condition: Callable[[], bool]) -> None:
    """Give way to others until the condition holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_connection_whose_client_read_slowly_serves_the_next_one(world) -> None:
    """The upstream is paused while the client takes nothing, and reads again afterwards."""
    first = answer(b"200 OK", b"a" * 150_000)
    upstream = await world.upstream(first)
    await world.gateway(upstream.url)
    for _ in range(3):
        client = await world.client()
        await client.send(post())
        assert len((await client.answer())[2]) == 150_000
    assert {record.outcome for record in world.spool.records} == {0}


async def test_routes_that_share_a_connection_retry_their_own_statuses(world) -> None:
    """One passes a 503 on, the other tries again: also where the 503 is like the one before."""
    gone = answer(b"503 No", b"no")
    upstream = await world.upstream(gone, gone, gone, answer(b"200 OK", b"ok"))
    slot = Slot(version="1", endpoints=(upstream.url,))
    routes = [
        RouteSettings(
            name=name,
            model=name,
            match=MatchSettings(prefix=f"/{name}"),
            stable=slot,
            retry=RetrySettings(attempts=2, budget_percent=100, on=frozenset(statuses)),
        )
        for name, statuses in (("passes", ()), ("retries", ("503",)))
    ]
    world.proxy = Proxy(routes, world.spool)
    for route in routes:
        plan = RoutePlan(route=route.name, generation=1, salt="s", stable=slot)
        world.proxy.apply(LivePlan(plan))
    await world.listen()
    client = await world.client()
    for path, expected in ((b"/passes", 503), (b"/passes", 503), (b"/retries", 200)):
        await client.send(post(path))
        assert (await client.answer())[0] == expected
    assert [record.attempts for record in world.spool.records] == [1, 1, 2]
