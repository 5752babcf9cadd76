"""Copies to the canary: exactly one record each, never in the client's way, never sent twice."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.record import OUTCOMES
from gateway.settings import StickySettings, TimeoutSettings
from gateway.upstream_settings import MirrorSettings
from tests.component.gateway.conftest import OK, until
from tests.component.gateway_upstreams.conftest import a_route

POST = b"POST /q?a=1 HTTP/1.1\r\nHost: h\r\nx-request-id: id-1\r\nContent-Length: 5\r\n\r\nhello"
ALL = MirrorSettings(percent=100)


async def shadow(world, canary, *, mirror=ALL, answer=OK, **more):
    stable = await world.upstream(answer)
    more = {"timeouts": TimeoutSettings(connect_s=5, first_byte_s=5, idle_s=5)} | more
    await world.serve(a_route("rag", stable.url, canary, mirror=mirror, **more))
    return stable


def kinds(records):
    return sorted(record.kind for record in records)


async def hanging(reader, writer):
    await asyncio.sleep(30)


async def closing(reader, writer):
    writer.close()


async def cut(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart")
    await writer.drain()
    writer.close()


async def test_a_copy_goes_out_after_the_answer_and_is_recorded_as_the_canarys(world):
    canary = await world.upstream(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfrom new!")
    stable = await shadow(world, canary.url)
    client = await world.client()
    for _ in range(3):
        await client.send(POST)
        status, headers, body = await client.answer()
        assert (status, body, headers["x-served-by"]) == (200, b"ok", "stable;1")
    records = await world.records(6)
    assert kinds(records) == [0, 0, 0, 1, 1, 1]
    assert canary.heads == stable.heads
    assert canary.bodies == [b"hello"] * 3
    copies = [record for record in records if record.kind == 1]
    assert {record.request_id for record in copies} == {b"id-1"}
    assert {record.response_body for record in copies} == {b"from new!"}
    assert {record.request_body for record in copies} == {b"hello"}
    stamp = json.loads(copies[0].stamp)
    assert (stamp["arm"], stamp["served_arm"], stamp["version"]) == ("canary", "canary", "2")


async def test_of_who_opts_out_the_copy_is_not_recorded_either(world):
    canary = await world.upstream()
    await shadow(world, canary.url)
    client = await world.client()
    await client.send(POST.replace(b"x-request-id: id-1", b"x-record: none"))
    await client.answer()
    records = await world.records(2)
    assert kinds(records) == [0, 1]
    for record in records:
        assert record.request_body == record.response_body == b""


async def test_copies_are_tallied_with_the_canary_and_counted_apart_from_clients_requests(world):
    canary = await world.upstream()
    await shadow(world, canary.url)
    for _ in range(4):
        await world.get()
    await world.records(8)
    tally = world.proxy.take_tally(world.spool.records[-1].ended_at_us // 1_000_000 + 1)
    answered = {entry.arm: entry.answered for entry in tally.entries}
    assert answered == {"stable": 4, "canary": 4}
    arms = world.proxy.arms("rag")
    assert (arms["stable"].requests, arms["canary"].requests) == (4, 0)
    counted = {(each.arm, each.version): each.count for each in world.proxy.counters()}
    assert counted == {("stable", "1"): 4, ("mirror", "2"): 4}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (closing, "reset"),
        (cut, "truncated"),
        (b"nothing like HTTP\r\n\r\n", "reset"),
        (b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n", "upstream_error"),
        (hanging, "timeout"),
    ],
    ids=["reset", "cut short", "garbage", "unavailable", "silence"],
)
async def test_whatever_the_canary_does_the_client_is_answered_and_nothing_is_sent_twice(
    world, answer, expected
):
    canary = await world.upstream(answer)
    short = TimeoutSettings(connect_s=5, first_byte_s=0.1, idle_s=5)
    await shadow(world, canary.url, timeouts=short)
    assert await world.get() == "stable;1"
    records = await world.records(2)
    (copy,) = [record for record in records if record.kind == 1]
    assert (OUTCOMES[copy.outcome], copy.attempts) == (expected, 1)
    assert len(canary.heads) == 1
    assert world.proxy._routes["rag"].mirroring.under_way == 0


async def test_a_canary_that_refuses_connections_costs_the_client_nothing(world, unused_tcp_port):
    await shadow(world, f"http://127.0.0.1:{unused_tcp_port}")
    for _ in range(5):
        assert await world.get() == "stable;1"
    assert kinds(await world.records(10)) == [0] * 5 + [1] * 5
    assert world.proxy.arms("rag")["canary"].errors == 0


async def test_copies_under_way_are_bounded_and_what_is_left_out_is_counted(world):
    gate = asyncio.Event()

    async def held(reader, writer):
        await gate.wait()
        writer.write(OK)

    canary = await world.upstream(held)
    await shadow(world, canary.url, mirror=MirrorSettings(percent=100, outstanding=2))
    for _ in range(5):
        assert await world.get() == "stable;1"
    await until(lambda: len(canary.heads) == 2)
    assert world.proxy.mirrors_skipped() == {"rag": {"outstanding": 3}}
    assert world.proxy.in_flight == 2
    gate.set()
    await world.records(7)
    await world.get()
    await world.records(9)


async def test_a_body_that_was_not_kept_whole_is_not_copied(world):
    canary = await world.upstream()
    stable = await shadow(world, canary.url)
    client = await world.client()
    big = b"b" * (64 * 1024 + 1)
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(big) + big)
    assert (await client.answer())[0] == 200
    assert stable.bodies == [big]
    assert kinds(await world.records(1)) == [0]
    assert world.proxy.mirrors_skipped() == {"rag": {"body_not_kept": 1}}


async def test_a_copy_of_a_request_without_a_host_has_one(world):
    """HTTP/1.0 needs none, and copies go out in HTTP/1.1."""
    canary = await world.upstream()
    stable = await shadow(world, canary.url)
    client = await world.client()
    await client.send(b"GET / HTTP/1.0\r\nx-request-id: id-1\r\n\r\n")
    assert (await client.answer())[0] == 200
    await world.records(2)
    for each in (stable, canary):
        assert b"host: %b\r\n" % each.url.removeprefix("http://").encode() in each.heads[0]


async def test_a_chunked_body_is_copied_with_its_framing(world):
    canary = await world.upstream()
    await shadow(world, canary.url)
    client = await world.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    await client.send(b"3\r\nabc\r\n")
    await client.send(b"2\r\nde\r\n0\r\n\r\n")
    assert (await client.answer())[0] == 200
    await world.records(2)
    assert canary.bodies == [b"abcde"]


async def test_only_what_the_weights_gave_to_stable_is_copied(world):
    canary = await world.upstream()
    stable = await shadow(
        world, canary.url, canary_share_bp=5000, override=True,
        sticky=StickySettings(header="x-user-id"),
    )  # fmt: skip
    served = [await world.get(b"x-user-id: %d" % user) for user in range(20)]
    served.append(await world.get(b"x-canary: never"))
    of_stable = served[:20].count("stable;1")
    await until(lambda: len(canary.heads) == 20)
    records = await world.records(21 + of_stable)
    assert kinds(records) == [0] * 20 + [1] * of_stable + [2]
    assert len(stable.heads) == of_stable + 1
    plan = world.proxy.live("rag").plan
    world.apply(
        generation=2, stable=plan.stable, canary=plan.canary, lease_s=1.0, lease_ends_at_s=0.0
    )
    assert await world.get() == "stable;1"
    assert len(await world.records(22 + of_stable)) == 22 + of_stable


async def test_about_the_share_asked_for_is_copied_and_without_a_canary_nothing(world):
    canary = await world.upstream()
    await shadow(world, canary.url, mirror=MirrorSettings(percent=30))
    client = await world.client()
    for _ in range(300):
        await client.send(POST)
        await client.answer()
    await until(lambda: world.proxy.in_flight == 0)
    assert 50 < len(canary.heads) < 140
    world.apply(generation=2, stable=world.proxy.live("rag").plan.stable)
    assert world.proxy._routes["rag"].lanes[world.proxy.live("rag").stable].mirror is None


async def test_copies_under_way_at_the_end_are_recorded_and_no_more_are_made(world):
    canary = await world.upstream(hanging)
    await shadow(world, canary.url)
    assert await world.get() == "stable;1"
    await until(lambda: len(canary.heads) == 1)
    await world.proxy.drain(0)
    records = await world.records(2)
    (copy,) = [record for record in records if record.kind == 1]
    assert OUTCOMES[copy.outcome] == "cancelled"


async def test_a_drain_gives_copies_under_way_the_same_time_as_clients(world):
    may_answer = asyncio.Event()

    async def slow(reader, writer):
        await may_answer.wait()
        writer.write(OK)

    canary = await world.upstream(slow)
    await shadow(world, canary.url)
    client = await world.client()
    await client.send(POST)
    await client.answer()
    await until(lambda: len(canary.heads) == 1)
    client.close()
    await until(lambda: world.proxy.connections == 0)
    draining = asyncio.ensure_future(world.proxy.drain(5))
    await asyncio.sleep(0)
    may_answer.set()
    assert await draining == 0
    copies = [record for record in world.spool.records if record.kind == 1]
    assert [OUTCOMES[record.outcome] for record in copies] == ["ok"]


async def test_a_big_answer_is_dropped_as_it_comes(world):
    big = b"z" * 2_000_000
    canary = await world.upstream(
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(big), big)
    )
    await shadow(world, canary.url)
    assert await world.get() == "stable;1"
    records = await world.records(2)
    (copy,) = [record for record in records if record.kind == 1]
    assert (copy.response_bytes, len(copy.response_body)) == (len(big), 64 * 1024)
