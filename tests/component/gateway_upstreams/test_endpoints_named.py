"""A record names the endpoint that its attempts asked, however the exchange ended."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.record import OUTCOMES, ExchangeRecord
from gateway.settings import MatchSettings, RetrySettings, RouteSettings, TimeoutSettings
from gateway.stamp import Stamp
from mlops.contracts.plan import Slot
from tests.component.gateway_upstreams.conftest import a_route

ASKED = b"GET /query HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
UNAVAILABLE = b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n"
ONCE = RetrySettings(attempts=1)
GENEROUS = RetrySettings(budget_percent=100)


def named(record: ExchangeRecord) -> tuple[str, str]:
    stamp = msgspec.json.decode(record.stamp, type=Stamp)
    return stamp.endpoint, stamp.first_attempt_endpoint


async def closing(reader, writer):
    writer.close()


async def silent(reader, writer):
    await asyncio.sleep(30)


async def cut_short(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart")
    await writer.drain()
    writer.close()


async def test_each_answer_names_the_one_of_several_that_gave_it(world):
    upstreams = [await world.upstream(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % n)
                 for n in range(3)]  # fmt: skip
    urls = tuple(each.url for each in upstreams)
    await world.serve(
        RouteSettings(
            name="rag",
            model="m",
            match=MatchSettings(),
            stable=Slot(version="1", endpoints=urls),
        )
    )
    for _ in range(30):
        await world.get()
    records = await world.records(30)
    for record in records:
        assert named(record) == (urls[int(record.response_body)], "")
    assert len({named(record) for record in records}) > 1


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [(closing, "reset"), (silent, "timeout"), (cut_short, "truncated"), (None, "upstream_error")],
)
async def test_a_failure_names_the_endpoint_that_failed(
    world, behaviour, expected, unused_tcp_port
):
    url = f"http://127.0.0.1:{unused_tcp_port}"  # nobody listens
    if behaviour is not None:
        url = (await world.upstream(behaviour)).url
    first_byte_s = 0.1 if behaviour is silent else 30.0
    timeouts = TimeoutSettings(connect_s=30, first_byte_s=first_byte_s, idle_s=30)
    await world.serve(a_route(stable=url, retry=ONCE, timeouts=timeouts))
    client = await world.client()
    await client.send(ASKED)
    await client.rest()
    (record,) = await world.records(1)
    assert (OUTCOMES[record.outcome], *named(record)) == (expected, url, "")


async def test_a_client_that_left_was_waiting_for_an_endpoint(world):
    upstream = await world.upstream(silent)
    await world.serve(a_route(stable=upstream.url))
    client = await world.client()
    await client.send(ASKED)
    async with asyncio.timeout(5):
        while not upstream.heads:
            await asyncio.sleep(0.01)
    client.close()
    (record,) = await world.records(1)
    assert (OUTCOMES[record.outcome], *named(record)) == ("cancelled", upstream.url, "")


async def test_after_a_retry_both_are_named_and_the_answer_is_of_the_last(world):
    failing, working = await world.upstream(UNAVAILABLE), await world.upstream()
    await world.serve(
        a_route(stable=working.url, canary=failing.url, override=True, retry=GENEROUS)
    )
    assert await world.get(b"x-canary: always") == "stable;1"
    (record,) = await world.records(1)
    assert record.attempts == 2
    assert named(record) == (working.url, failing.url)


async def test_the_next_plan_names_its_own(world):
    before, after = await world.upstream(), await world.upstream()
    await world.serve(a_route(stable=before.url))
    await world.get()
    live = world.proxy.live("rag")
    plan = msgspec.structs.replace(
        live.plan, generation=live.plan.generation + 1,
        stable=Slot(version="2", endpoints=(after.url,)),
    )  # fmt: skip
    world.proxy.apply(type(live)(plan))
    await world.get()
    assert [named(record)[0] for record in await world.records(2)] == [before.url, after.url]
