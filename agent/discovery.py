"""Which gateways there are: those that are listed, and every address a DNS name has.

A Kubernetes headless service is such a name. An address that leaves the name is kept for as long as
a lease that it was last seen with may still send traffic to a canary.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from agent.settings import GatewaySettings
from mlops.deployment.gateway_client import GatewayClient
from mlops.service.tls import Trust
from mlops.service.tls_settings import ClientTls

log = logging.getLogger(__name__)

REFRESH_S = 5.0
"""Between two questions to the resolver: a new gateway gets its plan within about this."""

RESOLVE_TIMEOUT_S = 2.0
"""A resolver that takes longer keeps what it said last in force."""

MAX_MEMBERS = 2_000
"""Addresses of one agent; more is taken for a mistake in the name's zone."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""All addresses of a host; raises OSError."""


async def addresses_of(host: str, port: int) -> Sequence[str]:
    """Every A and AAAA record, as the system's resolver gives them."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({str(address[0]) for *_, address in found})


class Discovery:
    """The gateways' clients, by URL. `refresh` is called once a cycle."""

    def __init__(
        self,
        gateways: Sequence[GatewaySettings],
        *,
        actor: str,
        now_s: Callable[[], float],
        resolve: Resolve = addresses_of,
    ) -> None:
        """`now_s` is monotonic."""
        self._actor = actor
        self._now_s = now_s
        self._resolve = resolve
        self._names = [one for one in gateways if one.is_name]
        self._by_name: dict[str, frozenset[str]] = {}
        """By the name's URL, what it last resolved to."""
        self._asked_s = float("-inf")
        self._departed: dict[str, float] = {}
        """By URL, until when it is kept."""
        self._trusts: dict[ClientTls, Trust] = {}
        """One of each kind, however many gateways there are."""
        self.clients: dict[str, GatewayClient] = {
            one.url: GatewayClient(one.url, one.token, actor=actor, trust=self._trust(one))
            for one in gateways
            if not one.is_name
        }

    async def refresh(self, lease_s: Callable[[str], float]) -> None:
        """Ask the resolver if it is time; `lease_s` is what a gateway was last seen with."""
        if not self._names or self._now_s() - self._asked_s < REFRESH_S:
            return
        self._asked_s = self._now_s()
        await asyncio.gather(*map(self._ask, self._names))
        await self._forget(lease_s)

    async def close(self) -> None:
        """Close every client."""
        await asyncio.gather(*(client.close() for client in self.clients.values()))

    async def _ask(self, name: GatewaySettings) -> None:
        parts = urlsplit(name.url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                found = await self._resolve(host, port)
        except (OSError, TimeoutError) as error:
            log.warning("gateways %s: %s; going on with what is known", name.url,
                        str(error) or "the resolver did not answer")  # fmt: skip
            return
        urls = [f"{parts.scheme}://{_bracketed(address)}:{port}" for address in found]
        if len(urls) > MAX_MEMBERS:
            log.error("gateways %s: %d addresses, at most %d", name.url, len(urls), MAX_MEMBERS)
            urls = urls[:MAX_MEMBERS]
        for url in urls:
            if url not in self.clients:
                log.info("gateway %s joins (%s)", url, host)
                self.clients[url] = GatewayClient(
                    url,
                    name.token,
                    actor=self._actor,
                    server_name=parts.netloc,
                    trust=self._trust(name),
                )
        self._by_name[name.url] = frozenset(urls)

    async def _forget(self, lease_s: Callable[[str], float]) -> None:
        named = frozenset[str]().union(*self._by_name.values())
        listed = {url for url in self.clients if url not in named and self._is_from_name(url)}
        for url in listed:
            until_s = self._departed.setdefault(url, self._now_s() + lease_s(url))
            if self._now_s() >= until_s:
                log.info("gateway %s has left", url)
                self._departed.pop(url)
                await self.clients.pop(url).close()
        for url in self._departed.keys() & named:
            self._departed.pop(url)

    def _trust(self, gateway: GatewaySettings) -> Trust:
        return self._trusts.setdefault(gateway.tls, Trust(gateway.tls))

    def _is_from_name(self, url: str) -> bool:
        return bool(self.clients[url].server_name)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
