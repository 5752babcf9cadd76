"""What holds for every client, worked out once for the request path: names, bounds, policy."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

from gateway.forwarding import UNIX, Forwarding, names
from gateway.framing import REQUEST_DROPPED, REQUEST_SPECIAL
from gateway.settings import ClientSettings
from gateway.upstream_settings import MAX_CONNECTIONS

UNBOUNDED: Final = 1 << 62
"""No body is as long: in its place in comparisons, so that they need no second one."""

OWN_DESCRIPTORS: Final = 192
"""Of a worker: listening sockets, the spool's files and the loop's own, of which some thirty are
usual; and connections just accepted, 64 in one turn of the loop, that are closed in the next."""

_FOR_UPSTREAMS: Final = 2 * MAX_CONNECTIONS
"""As many as two endpoints may take; where there are fewer than twice as many, half of them."""

_ALWAYS_TOLD: Final = 16
_TOLD_PER: Final = 4
MAX_TURNED_AWAY: Final = 1024
"""Connections above the bound that are told so: some, and one for every four below it.
The rest is only closed."""


class ClientRules:
    """The settings that concern clients, as the request path reads them."""

    __slots__ = (
        "_forwarded",
        "_trusted",
        "dropped",
        "max_body_bytes",
        "max_connections",
        "max_headers_bytes",
        "max_target_bytes",
        "max_turned_away",
        "special",
    )

    def __init__(self, settings: ClientSettings) -> None:
        limits = settings.limits
        self._forwarded = settings.forwarded
        self._trusted = [ip_network(text) for text in settings.forwarded.trusted if text != UNIX]
        self.dropped = REQUEST_DROPPED | names(settings.forwarded)
        """Names of request headers that are not passed on as they came."""
        self.special = REQUEST_SPECIAL | self.dropped
        """Names of request headers whose values are kept; the rest is only passed on."""
        self.max_connections: int = limits.connections
        self.max_turned_away: int = min(
            MAX_TURNED_AWAY, _ALWAYS_TOLD + limits.connections // _TOLD_PER
        )
        self.max_target_bytes: int = limits.target_bytes
        self.max_headers_bytes: int = limits.headers_bytes
        bound = limits.body_bytes
        self.max_body_bytes: int = UNBOUNDED if bound is None else bound

    def look_at(self, names: Iterable[bytes]) -> None:
        """Keep the values of these request headers, too, from now on."""
        self.special = REQUEST_SPECIAL | self.dropped | frozenset(names)

    def forwarding(self, peer: str, *, is_tls: bool) -> Forwarding:
        """What upstreams are told about one client. `peer`: its IP address; empty: none."""
        scheme = "https" if is_tls else "http"
        return Forwarding(self._forwarded, peer, scheme, self._trusted)


def most_clients(descriptors: int) -> int:
    """Clients that a worker with so many descriptors can have without keeping them from upstreams.

    Whoever is accepted beyond them would be answered 502, as would all the others.
    """
    free = descriptors - OWN_DESCRIPTORS
    for_clients = free - min(free // 2, _FOR_UPSTREAMS)
    return max(1, for_clients * _TOLD_PER // (_TOLD_PER + 1))  # the rest is turned away
