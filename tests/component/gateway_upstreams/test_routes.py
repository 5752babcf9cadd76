"""Which route takes a request, which arm, and who never sees the canary."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.config import parse
from gateway.settings import MatchSettings, NeverCanarySettings, StickySettings
from mlops.contracts.plan import Slot
from tests.component.gateway_upstreams.conftest import a_route


async def test_the_first_route_that_matches_host_prefix_and_method_wins(world):
    upstreams = [await world.upstream() for _ in range(4)]
    chat, embeddings, host, rest = (each.url for each in upstreams)
    await world.serve(
        a_route("chat", chat, match=MatchSettings(prefix="/v1/chat", methods=frozenset({b"POST"}))),
        a_route("embeddings", embeddings, match=MatchSettings(prefix="/v1")),
        a_route("host", host, match=MatchSettings(host="models.example")),
        a_route("rest", rest, match=MatchSettings(prefix="/other")),
    )
    await world.get(target=b"/v1/chat", method=b"POST")
    await world.get(target=b"/v1/chat")
    await world.get(b"Host: Models.Example:8000", target=b"/anything")
    await world.get(b"Host: models.example", target=b"/v1/models")
    await world.get(target=b"/other/x?y=/v1")
    assert await world.get(target=b"/nowhere") == "404"
    assert [len(each.heads) for each in upstreams] == [1, 2, 1, 1]
    assert [record.stamp.split(b'"')[3] for record in await world.records(5)] == [
        b"chat", b"embeddings", b"host", b"embeddings", b"rest",
    ]  # fmt: skip


async def test_each_arm_has_its_own_credentials_and_the_clients_are_not_passed_on(world):
    stable, canary = await world.upstream(), await world.upstream()
    settings = parse(
        f"""
routes:
  - name: rag
    match: {{prefix: /}}
    override: true
    stable: {{version: "1", endpoints: ["{stable.url}"],
             headers: {{authorization: {{env: STABLE_KEY}}}}}}
    canary: {{version: "2", endpoints: ["{canary.url}"],
             headers: {{authorization: {{env: CANARY_KEY}}, x-flavour: new}}}}
""",
        {"STABLE_KEY": "key-of-stable", "CANARY_KEY": "key-of-canary"},
    )
    await world.serve(*settings.routes)
    for wish in (b"never", b"always"):
        own = (b"Authorization: client-token", b"X_Flavour: old", b"x-canary: %b" % wish)
        await world.get(*own)
    (of_stable,), (of_canary,) = stable.heads, canary.heads
    assert b"authorization: key-of-stable\r\n" in of_stable
    assert b"authorization: key-of-canary\r\n" in of_canary
    assert b"x-flavour: new\r\n" in of_canary
    assert b"X_Flavour" not in of_canary  # which a WSGI server would take for the same header
    assert b"X_Flavour: old\r\n" in of_stable
    assert b"client-token" not in of_stable + of_canary


async def test_what_one_arm_replaces_the_other_gets_as_the_client_sent_it(world):
    """Also of a request that the first has failed."""
    stable = await world.upstream()
    canary = await world.upstream(b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n")
    route = a_route("rag", stable.url, sticky=StickySettings(header="x-user-id"))
    slot = Slot(version="2", endpoints=(canary.url,), headers={"x-forwarded-host": "inner"})
    await world.serve(replace(route, canary=slot, canary_share_bp=9500))
    assert await world.get(b"x-user-id: u") == "stable;1"
    assert b"x-forwarded-host: inner\r\n" in canary.heads[0]
    assert b"x-forwarded-host: a\r\n" in stable.heads[0]


@pytest.mark.parametrize("host", [b"models.example", b"models.example:", b"models.example:8000"])
async def test_a_host_is_the_same_with_a_port_and_without(world, host):
    upstream = await world.upstream()
    await world.serve(a_route("host", upstream.url, match=MatchSettings(host="models.example")))
    assert await world.get(b"Host: " + host) == "stable;1"


@pytest.mark.parametrize("override", [True, False])
async def test_who_is_kept_off_the_canary_never_gets_there_and_is_not_judged(world, override):
    stable, canary = await world.upstream(), await world.upstream()
    guard = NeverCanarySettings(
        keys=frozenset({b"vip"}), header="x-tenant", values=frozenset({b"acme", b"globex"})
    )
    await world.serve(
        a_route(
            "rag", stable.url, canary.url,
            canary_share_bp=9500, sticky=StickySettings(header="x-user-id"),
            override=override, never_canary=guard,
        )
    )  # fmt: skip
    kept_off = [(b"x-user-id: vip",), (b"x-tenant: acme", b"x-user-id: u")]
    kept_off += [(b"x-tenant: other", b"X-Tenant: globex", b"x-user-id: u")]
    kept_off += [(b"x-user-id: %d" % user, b"x-tenant: acme") for user in range(30)]
    for lines in kept_off:
        assert await world.get(*lines, b"x-canary: always") == "stable;1"
    served = {await world.get(b"x-user-id: %d" % user) for user in range(60)}
    assert served == {"stable;1", "canary;2"}
    records = await world.records(len(kept_off) + 60)
    assert {record.kind for record in records[: len(kept_off)]} == {2}
    assert {record.kind for record in records[len(kept_off) :]} == {0}


async def test_a_key_is_looked_for_in_header_then_cookie_then_body(world):
    upstream = await world.upstream()
    sticky = StickySettings(header="x-user-id", cookie="uid", json="/user")
    await world.serve(a_route("rag", upstream.url, sticky=sticky))
    body = b'{"user": "json"}'
    client = await world.client()
    for lines in (b"x-user-id: header\r\nCookie: uid=cookie\r\n", b"Cookie: uid=cookie\r\n", b""):
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n" % (lines, len(body))
        )
        await client.send(body)
        await client.answer()
    bucket_of = world.proxy.live("rag").bucket_of
    buckets = [record.bucket for record in await world.records(3)]
    assert buckets == [bucket_of(b"header"), bucket_of(b"cookie"), bucket_of(b"json")]
