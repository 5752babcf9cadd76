"""Who goes where: shares, leases, overrides, sticky keys, routes."""

from __future__ import annotations

import pytest

from gateway.record import OUTCOMES
from gateway.settings import MatchSettings, StickySettings


async def test_the_canary_gets_its_share_and_a_lapsed_lease_sends_all_to_stable(world):
    stable, canary = await world.upstream(), await world.upstream()
    await world.gateway(stable.url, canary=canary.url, share_bp=5000)
    client = await world.client()

    async def served_by(user):
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nx-user-id: %d\r\n\r\n" % user)
        return (await client.answer())[1]["x-served-by"]

    first = [await served_by(user) for user in range(40)]
    assert set(first) == {"stable;1", "canary;2"}
    assert [await served_by(user) for user in range(40)] == first
    plan = world.proxy.live("rag").plan
    world.apply(
        generation=2,
        stable=plan.stable,
        canary=plan.canary,
        canary_share_bp=5000,
        lease_s=1.0,
        lease_ends_at_s=0.0,
    )
    assert {await served_by(user) for user in range(40)} == {"stable;1"}
    assert b'"share_bp":0' in world.spool.records[-1].stamp
    arms = world.proxy.arms("rag")
    assert arms["canary"].requests == 2 * first.count("canary;2")


async def test_overrides_win_where_the_route_allows_them(world):
    stable, canary = await world.upstream(), await world.upstream()
    await world.gateway(stable.url, canary=canary.url, share_bp=0, override=True)
    client = await world.client()
    for header, expected in [
        (b"x-canary: always", "canary;2"),
        (b"x-canary: never", "stable;1"),
        (b"Cookie: a=b; canary=always", "canary;2"),
        (b"x-other: 1", "stable;1"),
    ]:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % header)
        assert (await client.answer())[1]["x-served-by"] == expected
    assert [record.kind for record in await world.records(4)] == [2, 2, 2, 0]


@pytest.mark.parametrize(
    ("sticky", "request_of"),
    [
        (
            StickySettings(cookie="uid"),
            lambda user: b"GET / HTTP/1.1\r\nHost: a\r\nCookie: x=1; uid=%d\r\n\r\n" % user,
        ),
        (
            StickySettings(json="/user/id"),
            lambda user: (
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 22\r\n\r\n"
                + b'{"user": {"id": %4d}}\n' % user
            ),
        ),
    ],
    ids=["cookie", "json pointer"],
)
async def test_other_sticky_keys_place_the_same_user_in_the_same_bucket(world, sticky, request_of):
    upstream = await world.upstream()
    await world.gateway(upstream.url, sticky=sticky)
    client = await world.client()
    for user in (1001, 1002, 1001, 1002):
        request = request_of(user)
        await client.send(request, one_by_one=True)
        assert (await client.answer())[0] == 200
    buckets = [record.bucket for record in await world.records(4)]
    live = world.proxy.live("rag")
    assert buckets == [live.bucket_of(b"%d" % user) for user in (1001, 1002, 1001, 1002)]


async def test_no_key_means_a_random_bucket_each_time(world):
    upstream = await world.upstream()
    await world.gateway(upstream.url)
    client = await world.client()
    for _ in range(8):
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.answer()
    assert len({record.bucket for record in await world.records(8)}) > 1


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        (b"/v1/query", b"api.example:80", 200),
        (b"/v1/query", b"API.example", 200),
        (b"/v2/query", b"api.example", 404),
        (b"/v1/query", b"other.example", 404),
    ],
)
async def test_only_what_a_route_matches_is_passed_on(world, target, host, expected):
    upstream = await world.upstream()
    match = MatchSettings(prefix="/v1", host="api.example", methods=frozenset({b"GET"}))
    await world.gateway(upstream.url, match=match)
    client = await world.client()
    await client.send(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
    assert (await client.answer())[0] == expected
    await client.send(b"DELETE %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
    assert (await client.answer())[0] == 404
    assert len(upstream.heads) == (expected == 200)
    await world.records(int(expected == 200))


async def test_a_retried_head_leaves_no_answer_behind_for_the_next_request(world):
    upstream = await world.upstream(
        b"HTTP/1.1 503 X\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    )
    await world.gateway(upstream.url)
    client = await world.client()
    await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.answer(no_body=True))[0] == 200
    for _ in range(2):
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer())[2] == b"ok"
    head, *_ = await world.records(3)
    assert (head.attempts, OUTCOMES[head.first_attempt_outcome]) == (2, "upstream_error")
