"""Bounds: pools, waiting requests, circuit breakers, retries, and time in all."""

from __future__ import annotations

import asyncio

import pytest

from gateway.record import OUTCOMES
from gateway.settings import MatchSettings, RetrySettings, StickySettings, TimeoutSettings
from gateway.upstream_settings import BreakerSettings, PoolSettings, UpstreamSettings
from tests.component.gateway.conftest import OK, until
from tests.component.gateway_upstreams.conftest import a_route

POST = b"POST / HTTP/1.1\r\nHost: a\r\nx-user-id: u\r\nContent-Length: 5\r\n\r\nhello"
SHORT = TimeoutSettings(connect_s=5, first_byte_s=5, idle_s=5)
UNAVAILABLE = b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n"


def held_back(gate):
    async def answer(reader, writer):
        await gate.wait()
        writer.write(OK)

    return answer


def pool_of(world):
    ((_, endpoint),) = world.proxy._endpoints.items()
    return endpoint


async def asked(world, count):
    clients = [await world.client() for _ in range(count)]
    for client in clients:
        await client.send(POST)
    return clients


async def statuses(clients):
    return [(await client.answer())[0] for client in clients]


async def test_a_pool_opens_no_more_connections_than_its_bound_and_the_rest_wait(world):
    gate = asyncio.Event()
    upstream = await world.upstream(held_back(gate))
    pool = UpstreamSettings(pool=PoolSettings(connections=2, pending=3, idle=1))
    await world.serve(a_route("rag", upstream.url, upstream=pool, timeouts=SHORT))
    clients = await asked(world, 2)
    await until(lambda: len(upstream.heads) == 2)
    clients += await asked(world, 3)
    await until(lambda: len(pool_of(world).waiters) == 3)
    (refused,) = await asked(world, 1)
    status, headers, body = await refused.answer()
    assert (status, headers["retry-after"]) == (503, "1")
    assert b"too many requests wait for the upstream" in body
    gate.set()
    assert await statuses(clients) == [200] * 5
    assert upstream.connections == 2
    await world.records(6)
    await until(lambda: (pool_of(world).open, len(pool_of(world).idle)) == (1, 1))


async def test_an_idle_connection_is_closed_when_its_time_is_over(world):
    upstream = await world.upstream()
    pool = UpstreamSettings(pool=PoolSettings(idle_timeout_s=0.05))
    await world.serve(a_route("rag", upstream.url, upstream=pool))
    assert await world.get() == "stable;1"
    await until(lambda: pool_of(world).open == 0)


async def test_routes_that_say_the_same_of_an_address_share_a_pool_and_others_do_not(world):
    upstream = await world.upstream()
    small = UpstreamSettings(pool=PoolSettings(connections=1))
    routes = [a_route(name, upstream.url) for name in ("one", "two")]
    await world.serve(*routes, a_route("three", upstream.url, upstream=small))
    assert len(world.proxy._endpoints) == 2


@pytest.mark.parametrize(
    ("breaker", "taken"),
    [(BreakerSettings(requests=3), 3), (BreakerSettings(pending=2), 3)],
    ids=["requests", "pending"],
)
async def test_an_open_circuit_breaker_answers_503_at_once_and_closes_again(world, breaker, taken):
    gate = asyncio.Event()
    upstream = await world.upstream(held_back(gate))
    one = UpstreamSettings(pool=PoolSettings(connections=1))
    await world.serve(
        a_route("rag", upstream.url, upstream=one, circuit_breaker=breaker, timeouts=SHORT)
    )
    clients = await asked(world, 1)
    await until(lambda: len(upstream.heads) == 1)
    clients += await asked(world, taken - 1)
    await until(lambda: len(pool_of(world).waiters) == taken - 1)
    refused = await asked(world, 4)
    for client in refused:
        status, headers, body = await client.answer()
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"the circuit breaker is open" in body
    gate.set()
    assert await statuses(clients) == [200] * taken
    assert await statuses(await asked(world, 1)) == [200]
    refusals = [each for each in await world.records(taken + 5) if each.status == 503]
    assert {(OUTCOMES[each.outcome], each.attempts) for each in refusals} == {("upstream_error", 1)}
    assert len(upstream.heads) == taken + 1


async def test_a_canary_over_its_bound_is_charged_and_stable_answers(world):
    gate = asyncio.Event()
    stable, canary = await world.upstream(), await world.upstream(held_back(gate))
    await world.serve(
        a_route(
            "rag", stable.url, canary.url, canary_share_bp=9500, timeouts=SHORT,
            sticky=StickySettings(header="x-user-id"), circuit_breaker=BreakerSettings(requests=1),
        )
    )  # fmt: skip
    clients = await asked(world, 1)
    await until(lambda: len(canary.heads) == 1)
    (other,) = await asked(world, 1)
    assert (await other.answer())[1]["x-served-by"] == "stable;1"
    gate.set()
    assert await statuses(clients) == [200]
    first, second = await world.records(2)
    assert (first.attempts, OUTCOMES[first.first_attempt_outcome]) == (2, "upstream_error")
    assert (second.attempts, OUTCOMES[second.first_attempt_outcome]) == (1, "ok")


async def test_retries_under_way_are_bounded_and_the_count_comes_back_to_nothing(world):
    gate = asyncio.Event()
    failing = await world.upstream(UNAVAILABLE)
    stable = await world.upstream(held_back(gate))
    await world.serve(
        a_route(
            "rag", stable.url, failing.url, canary_share_bp=9500, timeouts=SHORT,
            sticky=StickySettings(header="x-user-id"), circuit_breaker=BreakerSettings(retries=1),
        )
    )  # fmt: skip
    clients = await asked(world, 1)
    await until(lambda: len(stable.heads) == 1)
    assert await statuses(await asked(world, 3)) == [503] * 3
    gate.set()
    assert await statuses(clients) == [200]
    assert await statuses(await asked(world, 1)) == [200]
    assert world.proxy._routes["rag"].retrying == 0
    assert world.proxy.arms("rag")["canary"].errors == 5


async def test_a_retry_goes_to_another_endpoint_of_the_arm(world):
    failing, working = await world.upstream(UNAVAILABLE), await world.upstream()
    route = a_route("rag", failing.url)
    slot = type(route.stable)(version="1", endpoints=(failing.url, working.url))
    await world.serve(
        type(route)(
            name="rag",
            model="m",
            match=route.match,
            stable=slot,
            retry=RetrySettings(budget_percent=100),
        )
    )
    for _ in range(20):
        assert await statuses(await asked(world, 1)) == [200]
    assert 0 < len(failing.heads) < 20


async def test_an_exchange_that_takes_too_long_in_all_ends_whatever_it_waits_for(world):
    gate = asyncio.Event()

    async def dripping(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while not gate.is_set():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    short = TimeoutSettings(connect_s=5, first_byte_s=5, idle_s=5, total_s=0.3)
    silent, drips = await world.upstream(held_back(gate)), await world.upstream(dripping)
    one = UpstreamSettings(pool=PoolSettings(connections=1))
    await world.serve(
        a_route("drips", drips.url, timeouts=short, match=MatchSettings(prefix="/drips")),
        a_route("silent", silent.url, timeouts=short, upstream=one),
    )
    hanging, waiting = await asked(world, 2)
    status, _, body = await hanging.answer()
    assert (status, b"longer than its route allows" in body) == (504, True)
    assert (await waiting.answer())[0] == 504
    streaming = await world.client()
    await streaming.send(b"GET /drips HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = await streaming.rest()
    assert answer == b"(reset)" or answer.count(b"x") < 1000
    gate.set()
    records = await world.records(3)
    assert [OUTCOMES[each.outcome] for each in records] == ["timeout", "timeout", "truncated"]
    assert {each.attempts for each in records} == {1}


async def test_a_retry_is_never_made_of_a_body_that_was_not_kept(world):
    failing = await world.upstream(UNAVAILABLE)
    stable = await world.upstream()
    await world.serve(
        a_route(
            "rag", stable.url, failing.url, canary_share_bp=9500,
            sticky=StickySettings(header="x-user-id"),
        )
    )  # fmt: skip
    client = await world.client()
    for size, expected in ((64 * 1024, 200), (64 * 1024 + 1, 503)):
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nx-user-id: u\r\nContent-Length: %d\r\n\r\n%b"
            % (size, b"b" * size)
        )
        assert (await client.answer())[0] == expected
    assert [each.attempts for each in await world.records(2)] == [2, 1]
