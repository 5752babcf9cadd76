"""The `Server-Timing` header: how long the gateway held a request, and how long its upstream. Pure.

https://www.w3.org/TR/server-timing/ Only what is known when the head goes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.exchange import Exchange

ASKED_BY: Final = b"x-server-timing"
"""A request with this header, of whatever value but `0`, asks for it."""


def timing_line(exchange: Exchange) -> bytes:
    """The whole field line; durations in milliseconds."""
    own_us = exchange.own_ns // 1000
    upstream_us = max(0, (exchange.first_ns - exchange.started_ns) // 1000 - own_us)
    line = b"server-timing: gateway;dur=%.3f, upstream;dur=%.3f" % (own_us / 1e3, upstream_us / 1e3)
    if exchange.attempts > 1:
        line += b', attempts;desc="%d"' % exchange.attempts
    return line + b"\r\n"
