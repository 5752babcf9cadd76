"""Upstreams that fail under many requests at once: each ends once, and nothing stays behind."""

from __future__ import annotations

import asyncio
import gc

import pytest

from gateway.exchange import Exchange
from gateway.record import OUTCOMES
from gateway.settings import MatchSettings, RetrySettings, RouteSettings, TimeoutSettings
from gateway.upstream_settings import OutlierSettings, PoolSettings, UpstreamSettings
from mlops.contracts.plan import Slot
from tests.component.gateway.conftest import OK, until
from tests.component.gateway_upstreams.conftest import a_route

CLIENTS = 200
"""At a time; the other side of each is in this process too."""
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
PATIENT = TimeoutSettings(connect_s=30, first_byte_s=30, idle_s=30)
"""Where no timeout is what is tested: longer than the slowest machine needs."""
NO_ANSWER = TimeoutSettings(connect_s=30, first_byte_s=0.3, idle_s=30)
NO_END = TimeoutSettings(connect_s=30, first_byte_s=30, idle_s=0.3)
NO_RETRY = RetrySettings(attempts=1)


async def hanging(reader, writer):
    await asyncio.sleep(60)


async def hanging_in_the_body(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart")
    await asyncio.sleep(60)


async def resetting(reader, writer):
    writer.transport.abort()


async def resetting_in_the_body(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n")
    await writer.drain()
    writer.transport.abort()


async def garbage(reader, writer):
    writer.write(b"\x00\xff garbage" * 100)


async def too_much(reader, writer):
    writer.write(OK + OK)


def tasks_of_dials():
    return [each for each in asyncio.all_tasks() if each.get_name().startswith("dial ")]


async def at_once(world, count=CLIENTS):
    """Requests of as many clients at a time; what each was told: a status, or 0 for a cut."""
    clients = await asyncio.gather(*(world.client() for _ in range(count)))
    return clients, [asyncio.ensure_future(told(client)) for client in clients]


async def told(client):
    await client.send(POST)
    try:
        status, _, _ = await client.answer()
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0
    return status


async def nothing_stays(world, count):
    """Each exchange ended once; no connection, no waiter, no task and no exchange is left."""
    records = await world.records(count)
    assert len({id(record) for record in records}) == count
    assert world.proxy.in_flight == 0
    route = world.proxy._routes["rag"]
    assert (route.retrying, route.mirroring.under_way) == (0, 0)
    answered = sum(sum(cell.answered.values()) for cell in route.cells.values())
    assert answered == count
    endpoints = list(world.proxy._endpoints.values())
    await until(lambda: all(each.open == len(each.idle) for each in endpoints))
    await until(lambda: not any(each.dialing or each.waiters for each in endpoints))
    await until(lambda: not tasks_of_dials())
    del records
    world.spool.records.clear()
    await until(lambda: not exchanges())


def exchanges():
    gc.collect()
    return [each for each in gc.get_objects() if type(each) is Exchange]


@pytest.mark.parametrize(
    ("handler", "timeouts", "status", "expected"),
    [
        (hanging, NO_ANSWER, 504, "timeout"),
        (hanging_in_the_body, NO_END, 0, "truncated"),
        (resetting, PATIENT, 502, "reset"),
        (resetting_in_the_body, PATIENT, 0, "truncated"),
        (garbage, PATIENT, 502, "reset"),
        (too_much, PATIENT, 200, "ok"),
    ],
)
async def test_200_requests_to_a_failing_upstream_all_end_once(
    world, handler, timeouts, status, expected
):
    upstream = await world.upstream(handler)
    await world.serve(a_route("rag", upstream.url, timeouts=timeouts, retry=NO_RETRY))
    _, answers = await at_once(world)
    assert set(await asyncio.gather(*answers)) == {status}
    assert {OUTCOMES[each.outcome] for each in world.spool.records} == {expected}
    await nothing_stays(world, CLIENTS)


async def test_200_requests_to_an_upstream_that_refuses_all_end_once(world, unused_tcp_port):
    refusing = f"http://127.0.0.1:{unused_tcp_port}"
    await world.serve(a_route("rag", refusing, timeouts=PATIENT, retry=NO_RETRY))
    _, answers = await at_once(world)
    assert set(await asyncio.gather(*answers)) == {502}
    await nothing_stays(world, CLIENTS)


@pytest.mark.parametrize("spares", [0, 1], ids=["alone", "beside another"])
async def test_an_upstream_that_dies_under_200_requests(world, spares):
    """With another endpoint and a budget, nobody notices; alone, everybody is told."""
    death = asyncio.Event()

    async def dies(reader, writer):
        await death.wait()
        writer.transport.abort()

    async def answers_then(reader, writer):
        await death.wait()  # else it would be the less busy one all the time
        writer.write(OK)

    dying = await world.upstream(dies)
    others = [await world.upstream(answers_then) for _ in range(spares)]
    slot = Slot(version="1", endpoints=(dying.url, *(each.url for each in others)))
    await world.serve(
        RouteSettings(
            name="rag", model="m", match=MatchSettings(), stable=slot,
            timeouts=PATIENT,
            retry=RetrySettings(budget_percent=100),
            upstream=UpstreamSettings(
                pool=PoolSettings(connections=64), outlier_detection=OutlierSettings()
            ),
        )
    )  # fmt: skip
    _, answers = await at_once(world)
    await until(lambda: len(dying.heads) >= 32)
    death.set()
    statuses = await asyncio.gather(*answers)
    assert set(statuses) == ({200} if spares else {502})
    await nothing_stays(world, CLIENTS)


async def test_clients_that_vanish_while_200_requests_hang(world):
    upstream = await world.upstream(hanging)
    await world.serve(
        a_route("rag", upstream.url, upstream=UpstreamSettings(pool=PoolSettings(connections=50)))
    )
    clients, answers = await at_once(world)
    await until(lambda: len(upstream.heads) == 50)
    for client in clients:
        client.writer.transport.abort()
    await asyncio.gather(*answers, return_exceptions=True)
    await until(lambda: world.proxy.connections == 0)
    records = await world.records(CLIENTS)
    assert {OUTCOMES[each.outcome] for each in records} == {"cancelled"}
    del records
    await nothing_stays(world, CLIENTS)
