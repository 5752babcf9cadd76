"""TLS contexts: made from files, and again when these change; bad ones leave what was before."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.upstream_settings import ListenerTlsSettings, UpstreamTlsSettings

if TYPE_CHECKING:
    from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
"""How often files are looked at; a rotated certificate overlaps the old one by hours."""

HANDSHAKE_S: Final = 10.0
"""Longest handshake of a client: as long as it may take for a head."""

SHUTDOWN_S: Final = 1.0
"""Longest wait for the other side's farewell: one that died says none, and we must go on."""


def check(settings: GatewaySettings) -> None:
    """Raise ValueError, starting with the key, unless every file that is named can be used."""
    if settings.tls is not None:
        _made(partial(_listener, settings.tls), "tls")
    for index, route in enumerate(settings.routes):
        _made(partial(_client, route.upstream.tls), f"routes[{index}].tls")


class Contexts:
    """What one worker needs: a context for its listeners, one for each kind of upstream."""

    def __init__(self, listener: ListenerTlsSettings | None = None) -> None:
        """Raises ValueError where a file cannot be used."""
        self._kept: dict[UpstreamTlsSettings | ListenerTlsSettings, _Kept] = {}
        self.listener: Final = None if listener is None else self._front(listener)
        """What a server is given; None: clients speak plain HTTP."""

    def _front(self, settings: ListenerTlsSettings) -> ssl.SSLContext:
        """A context that never changes, as a server keeps it, and defers to the one in force.

        The handshake's first message is read with this one; the switch comes before anything of
        it is used. Whether a client must show a certificate is this one's to say.
        """
        front = _made(partial(_listener, settings), "tls")
        kept = self._kept[settings] = _Kept("tls", partial(_listener, settings), settings)

        def switch(client: ssl.SSLObject, _name: str | None, _front: ssl.SSLContext) -> None:
            client.context = kept.context

        front.sni_callback = switch
        return front

    def client(self, settings: UpstreamTlsSettings) -> ssl.SSLContext:
        """For new connections to a route's `https://` endpoints.

        Raises:
            ValueError: a file cannot be used, and no earlier version of it was.
        """
        kept = self._kept.get(settings)
        if kept is None:
            kept = _Kept("upstream tls", partial(_client, settings), settings)
            self._kept[settings] = kept
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


class _Kept:
    """A context, the files that it was made from, and how they looked then."""

    def __init__(
        self,
        name: str,
        make: Callable[[], ssl.SSLContext],
        settings: ListenerTlsSettings | UpstreamTlsSettings,
    ) -> None:
        self._name = name
        self._make = make
        self.paths: Final = _paths(settings)
        self._seen = _looks(self.paths)
        self.context = _made(make, name)

    def refresh(self) -> None:
        looks = _looks(self.paths)
        if looks == self._seen:
            return
        try:
            self.context = _made(self._make, self._name)
        except ValueError as error:
            log.warning("%s; the files read before stay in use", error)
        else:
            log.info("%s: read %s again", self._name, ", ".join(self.paths))
        self._seen = looks  # bad files are said to be so once, not at every look


def _paths(settings: ListenerTlsSettings | UpstreamTlsSettings) -> tuple[str, ...]:
    authorities = settings.ca if isinstance(settings, UpstreamTlsSettings) else settings.client_ca
    named = (authorities, settings.cert, settings.key)
    return tuple(path for path in named if path is not None)


def _looks(paths: tuple[str, ...]) -> tuple[object, ...]:
    """What tells a file that was replaced, through a symbolic link too, from the one before."""
    looks: list[object] = []
    for path in paths:
        try:
            found = Path(path).stat()
        except OSError:
            looks.append(None)
        else:
            looks.append((found.st_mtime_ns, found.st_size, found.st_ino))
    return tuple(looks)


def _listener(settings: ListenerTlsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load_pair(context, settings.cert, settings.key)
    if settings.client_ca is not None:
        _load_authorities(context, settings.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _client(settings: UpstreamTlsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif settings.ca is not None:
        context = _trusting_only(settings.ca)
    if settings.cert is not None and settings.key is not None:
        _load_pair(context, settings.cert, settings.key)
    return context


def _trusting_only(authorities: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    _load_authorities(context, authorities)
    return context


def _load_pair(context: ssl.SSLContext, cert: str, key: str) -> None:
    def no_password() -> str:
        raise ValueError(f"{key}: is encrypted; expected a key without a passphrase")

    for path in (cert, key):
        _require(path)
    try:
        context.load_cert_chain(cert, key, password=no_password)
    except ssl.SSLError as error:
        raise ValueError(
            f"{cert} and {key}: expected a PEM certificate and the key that belongs to it "
            f"({error.reason or error})"
        ) from error


def _load_authorities(context: ssl.SSLContext, path: str) -> None:
    _require(path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise ValueError(f"{path}: expected PEM certificates ({error.reason or error})") from error


def _require(path: str) -> None:
    """A file that is not there gets a better sentence than OpenSSL's."""
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error


def _made(make: Callable[[], ssl.SSLContext], name: str) -> ssl.SSLContext:
    try:
        return make()
    except (ValueError, OSError) as error:
        raise ValueError(f"{name}: {error}") from error
