"""The key that places a request, and what the request itself asks for. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from gateway.framing import cookie_value

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.lanes import RouteState

MAX_JSON_KEY_BYTES: Final = 64 * 1024
"""Longest body that is parsed for a key, about 0.1 ms; a longer one gets a random key."""


def key_of(exchange: Exchange, route: RouteState) -> bytes | None:
    """What the route's header, else its cookie, else its JSON pointer says; None: nothing does."""
    headers = exchange.headers
    key: bytes | None = None
    if route.sticky_header is not None:
        key = headers.get(route.sticky_header)
    if not key and route.sticky_cookie is not None:
        cookies = headers.get(b"cookie")
        key = cookie_value(cookies, route.sticky_cookie) if cookies else None
    if (
        not key
        and route.sticky_json is not None
        and exchange.complete
        and exchange.is_replayable
        and exchange.request_bytes <= MAX_JSON_KEY_BYTES
    ):
        key = json_key(b"".join(exchange.kept), route.sticky_json)
    return key or None


def waits_for_body(exchange: Exchange, route: RouteState) -> bool:
    """Whether more of the body may still say the key, which nothing in the head does."""
    if (
        route.sticky_json is None
        or not exchange.is_replayable
        or exchange.request_bytes > MAX_JSON_KEY_BYTES
    ):
        return False
    return key_of(exchange, route) is None


def wish_of(headers: dict[bytes, bytes], key: bytes | None, route: RouteState) -> bool | None:
    """True: the canary, False: never the canary, None: as the weights say.

    Who is kept off the canary by the route's file cannot ask for it.
    """
    if route.guards_canary and is_kept_off(headers, key, route):
        return False
    return override_of(headers) if route.override else None


def is_kept_off(headers: dict[bytes, bytes], key: bytes | None, route: RouteState) -> bool:
    """Whether `never_canary` names this key, or a value of its header.

    A header that was sent twice arrives joined by commas: one of the values is enough.
    """
    guard = route.settings.never_canary
    if key is not None and key in guard.keys:
        return True
    value = headers.get(route.guard_header) if route.guard_header is not None else None
    if value is None:
        return False
    return value in guard.values or any(part.strip() in guard.values for part in value.split(b","))


def override_of(headers: dict[bytes, bytes]) -> bool | None:
    """`x-canary: always|never`, then the cookie `canary`; anything else says nothing."""
    word = headers.get(b"x-canary")
    if word is None:
        cookies = headers.get(b"cookie")
        word = cookie_value(cookies, b"canary") if cookies else None
    if word == b"always":
        return True
    return False if word == b"never" else None


def json_key(body: bytes, pointer: str) -> bytes | None:
    """What a JSON pointer (RFC 6901) finds in `body`, if it is a text or a number."""
    try:
        value = msgspec.json.decode(body)
        for token in pointer.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            value = value[int(name)] if isinstance(value, list) else value[name]
    except (msgspec.DecodeError, KeyError, IndexError, ValueError, TypeError, RecursionError):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).encode()
