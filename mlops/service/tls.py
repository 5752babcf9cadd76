"""TLS contexts: made from files, and again when these change; bad ones leave what was before."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mlops.service.tls_settings import ClientTls, ServerTls

log = logging.getLogger(__name__)

LOOK_S: Final = 5.0
"""How often files are looked at; a rotated certificate overlaps the old one by hours."""


class UnusableFiles(ValueError):
    """A file cannot be read, or is not what it should be; the message names it."""


class KeptContext:
    """A context, the files that it was made from, and how they looked then."""

    def __init__(
        self,
        name: str,
        settings: ServerTls | ClientTls,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`name` begins what is said of the files.

        Raises:
            UnusableFiles: a file cannot be used.
        """
        self._name = name
        self._settings = settings
        self._clock = clock
        self.paths: Final = settings.paths
        self._seen = _looks(self.paths)
        self._looked_at_s = clock()
        self.context = make(name, settings)
        """In force, as of the last look."""

    def fresh(self) -> ssl.SSLContext:
        """For a new connection: looks at the files if that was `LOOK_S` ago."""
        now_s = self._clock()
        if now_s - self._looked_at_s >= LOOK_S:
            self._looked_at_s = now_s
            self.refresh()
        return self.context

    def refresh(self) -> None:
        """Look at every file; what changed and can be used is in force for new connections."""
        looks = _looks(self.paths)
        if looks == self._seen:
            return
        # First, for whoever looks meanwhile: bad files are said to be so once, not at every look.
        self._seen = looks
        try:
            self.context = make(self._name, self._settings)
        except UnusableFiles as error:
            log.warning("%s; the files read before stay in use", error)
        else:
            log.info("%s: read %s again", self._name, ", ".join(self.paths))


class Trust:
    """Whom a client believes and what it shows; its files are read when first needed."""

    def __init__(self, settings: ClientTls) -> None:
        self._settings = settings
        self._kept: KeptContext | None = None
        self.server_name: Final = settings.server_name
        """To verify in place of the address's host; None: that host."""

    def context(self) -> ssl.SSLContext | bool:
        """For a new connection; True: the system's authorities, and nothing to show.

        Raises:
            UnusableFiles: a file cannot be used, and no earlier version of it was.
        """
        if self._settings == ClientTls(server_name=self.server_name):
            return True
        if self._kept is None:
            self._kept = KeptContext("tls", self._settings)
        return self._kept.fresh()


def front(name: str, settings: ServerTls, in_force: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """A context that never changes, as a server keeps it, and defers to the one in force.

    The handshake's first message is read with this one; the switch comes before anything of it is
    used. Whether a client must show a certificate is this one's to say.

    Raises:
        UnusableFiles: a file cannot be used.
    """
    made = make(name, settings)

    def switch(client: ssl.SSLObject, _name: str | None, _front: ssl.SSLContext) -> None:
        client.context = in_force()

    made.sni_callback = switch
    return made


class ServerContext:
    """Of a server whose connections are few: files are looked at as clients connect."""

    def __init__(self, settings: ServerTls, name: str = "tls") -> None:
        """Raises UnusableFiles: a file cannot be used."""
        self._kept = KeptContext(name, settings)
        self.front: Final = front(name, settings, self._kept.fresh)
        """What the server is given."""

    def refresh(self) -> None:
        """Look at the files now."""
        self._kept.refresh()


def make(name: str, settings: ServerTls | ClientTls) -> ssl.SSLContext:
    """A context of the files as they are now.

    Raises:
        UnusableFiles: one cannot be used; begins with `name`.
    """
    try:
        return _server(settings) if isinstance(settings, ServerTls) else _client(settings)
    except (ValueError, OSError) as error:
        raise UnusableFiles(f"{name}: {error}") from error


def _server(settings: ServerTls) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _restrict(context)
    _load_pair(context, settings.cert, settings.key)
    if settings.client_ca is not None:
        _load_authorities(context, settings.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _client(settings: ClientTls) -> ssl.SSLContext:
    if settings.ca is None:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load_authorities(context, settings.ca)
    _restrict(context)
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.cert is not None and settings.key is not None:
        _load_pair(context, settings.cert, settings.key)
    return context


def _restrict(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])


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
