"""Where a request's key is found, and who may ask for the canary."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.exchange import Exchange
from gateway.keys import (
    MAX_JSON_KEY_BYTES,
    json_key,
    key_of,
    override_of,
    waits_for_body,
    wish_of,
)
from gateway.lanes import RouteState
from gateway.settings import (
    MatchSettings,
    NeverCanarySettings,
    RecordSettings,
    RouteSettings,
    StickySettings,
)
from mlops.contracts.plan import Slot

ROUTE = RouteSettings(
    name="rag",
    model="m",
    match=MatchSettings(),
    stable=Slot(version="1", endpoints=("http://h:1",)),
    sticky=StickySettings(header="x-user-id", cookie="uid", json="/user"),
)
COOKIE = {b"cookie": b'a=b; uid="from-cookie"'}
BODY = b'{"user": 7}'


def key(headers, body=b"", route=ROUTE, *, complete=True):
    exchange = Exchange(None, b"/", 0)
    exchange.headers, exchange.kept = headers, [body]
    exchange.kept_bytes = exchange.request_bytes = len(body)
    exchange.complete = complete
    return key_of(exchange, RouteState(route, says_served_by=True))


def test_the_first_place_that_says_something_wins():
    assert key({b"x-user-id": b"from-header"} | COOKIE, BODY) == b"from-header"
    assert key({b"x-user-id": b""} | COOKIE, BODY) == b"from-cookie"
    assert key(COOKIE, BODY) == b"from-cookie"
    assert key({b"cookie": b"uid="}, BODY) == b"7"
    assert key({}, BODY) == b"7"
    assert key({}, b"no JSON") is None


def test_a_body_is_read_only_whole_and_within_its_bound():
    assert key({}, BODY, complete=False) is None
    route = replace(ROUTE, record=RecordSettings(bodies_bytes=1024 * 1024))
    padding = b" " * (MAX_JSON_KEY_BYTES - len(BODY))
    assert key({}, padding + BODY, route) == b"7"
    assert key({}, padding + b" " + BODY, route) is None


def test_a_request_waits_for_its_body_only_while_that_may_still_say_the_key():
    route = RouteState(ROUTE, says_served_by=True)

    def waits(headers, size, route=route):
        exchange = Exchange(None, b"/", 0)
        exchange.headers, exchange.kept = headers, []
        exchange.kept_bytes = exchange.request_bytes = size
        return waits_for_body(exchange, route)

    assert waits({}, 0)
    assert waits({b"x-user-id": b""}, MAX_JSON_KEY_BYTES)
    assert not waits({}, MAX_JSON_KEY_BYTES + 1)
    assert not waits({b"x-user-id": b"u"}, 0)
    assert not waits(COOKIE, 0)
    plain = replace(ROUTE, sticky=StickySettings(header="x-user-id"))
    assert not waits({}, 0, RouteState(plain, says_served_by=True))


def test_places_that_are_not_configured_are_not_looked_at():
    route = replace(ROUTE, sticky=StickySettings(json="/user"))
    assert key({b"x-user-id": b"from-header"} | COOKIE, b"", route) is None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({b"x-canary": b"always"}, True),
        ({b"x-canary": b"never", b"cookie": b"canary=always"}, False),
        ({b"x-canary": b"perhaps", b"cookie": b"canary=always"}, None),
        ({b"cookie": b"a=b; canary=always"}, True),
        ({b"cookie": b"a=b"}, None),
        ({}, None),
    ],
)
def test_the_header_says_more_than_the_cookie(headers, expected):
    assert override_of(headers) is expected


def test_who_is_kept_off_cannot_ask_and_others_only_where_the_route_allows_it():
    guard = NeverCanarySettings(
        keys=frozenset({b"vip"}), header="x-tenant", values=frozenset({b"acme", b"a,b"})
    )
    guarded = replace(ROUTE, never_canary=guard, override=True)
    route = RouteState(guarded, says_served_by=True)
    asks = {b"x-canary": b"always"}
    assert wish_of(asks, b"vip", route) is False
    for value in (b"acme", b"other, acme", b"acme,acme", b"a,b"):
        assert wish_of(asks | {b"x-tenant": value}, b"user", route) is False
    for value in (b"Acme", b"acme2", b""):
        assert wish_of(asks | {b"x-tenant": value}, None, route) is True
    assert wish_of(asks, None, RouteState(ROUTE, says_served_by=True)) is None


def test_a_json_pointer_finds_texts_and_numbers_only():
    body = b'{"user": {"id": 7, "a/b": ["x", {"y~": "z"}]}, "flag": true}'
    assert json_key(body, "/user/id") == b"7"
    assert json_key(body, "/user/a~1b/0") == b"x"
    assert json_key(body, "/user/a~1b/1/y~0") == b"z"
    for pointer in ("/flag", "/user", "/missing", "/user/a~1b/9", "/user/a~1b/x", "/user/id/deep"):
        assert json_key(body, pointer) is None
    assert json_key(b"not json", "/user") is None
