"""A worker's TLS contexts: of its listeners, and of each kind of upstream."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from gateway.upstream_settings import UpstreamTlsSettings
from mlops.service.tls import KeptContext, front, make
from mlops.service.tls_settings import ClientTls, ServerTls

if TYPE_CHECKING:
    from gateway.settings import GatewaySettings

HANDSHAKE_S: Final = 10.0
"""Longest handshake of a client: as long as it may take for a head."""

SHUTDOWN_S: Final = 1.0
"""Longest wait for the other side's farewell: one that died says none, and we must go on."""


def check(settings: GatewaySettings) -> None:
    """Raise ValueError, starting with the key, unless every file that is named can be used."""
    if settings.tls is not None:
        make("tls", settings.tls)
    if settings.admin.tls is not None:
        make("admin.tls", settings.admin.tls)
    for index, route in enumerate(settings.routes):
        make(f"routes[{index}].tls", _client(route.upstream.tls))


class Contexts:
    """What one worker needs: a context for its listeners, one for each kind of upstream."""

    def __init__(self, listener: ServerTls | None = None) -> None:
        """Raises ValueError where a file cannot be used."""
        self._kept: dict[UpstreamTlsSettings | ServerTls, KeptContext] = {}
        self.listener: Final = None if listener is None else self._front(listener)
        """What a server is given; None: clients speak plain HTTP."""

    def _front(self, settings: ServerTls) -> ssl.SSLContext:
        kept = self._kept[settings] = KeptContext("tls", settings)
        return front("tls", settings, lambda: kept.context)

    def client(self, settings: UpstreamTlsSettings) -> ssl.SSLContext:
        """For new connections to a route's `https://` endpoints.

        Raises:
            ValueError: a file cannot be used, and no earlier version of it was.
        """
        kept = self._kept.get(settings)
        if kept is None:
            kept = self._kept[settings] = KeptContext("upstream tls", _client(settings))
        return kept.context

    @property
    def names_files(self) -> bool:
        """Whether any file is named that could change."""
        return any(kept.paths for kept in self._kept.values())

    def refresh(self) -> None:
        """Look at every file; what changed and can be used is in force for new connections.

        Reads files: not to be called from an event loop's own thread.
        """
        for kept in list(self._kept.values()):
            kept.refresh()


def _client(settings: UpstreamTlsSettings) -> ClientTls:
    return ClientTls(ca=settings.ca, cert=settings.cert, key=settings.key, verify=settings.verify)
