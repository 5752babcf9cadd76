"""What the upstream is told about the client: `X-Forwarded-*`, `Forwarded` and `Via`, by policy.

Worked out once for a connection; a request only adds its own Host, and that once per host.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from gateway.framing import is_token, spellings
from gateway.settings import ForwardedForm, ForwardedMode, ForwardedSettings

FORWARDED_FOR: Final = b"x-forwarded-for"
FORWARDED_HOST: Final = b"x-forwarded-host"
FORWARDED_PROTO: Final = b"x-forwarded-proto"
FORWARDED: Final = b"forwarded"

UNIX: Final = "unix"
"""Among the trusted: clients on a Unix socket."""

NAMES: Final = frozenset({FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, FORWARDED})
"""A client that is not trusted may not set these."""


ALL_SPELLINGS: Final = frozenset[bytes]().union(*map(spellings, NAMES))


def names(settings: ForwardedSettings) -> frozenset[bytes]:
    """Names of the headers that do not pass as they came; those in `NAMES` are written anew."""
    return frozenset() if settings.mode is ForwardedMode.OFF else ALL_SPELLINGS


class Forwarding:
    """How the requests of one client connection are announced to an upstream."""

    __slots__ = ("_address", "_appends", "_host", "_lines", "_scheme", "_settings", "_via")

    def __init__(
        self,
        settings: ForwardedSettings,
        peer: str,
        scheme: str,
        trusted: Sequence[IPv4Network | IPv6Network] = (),
    ) -> None:
        """`peer` is the client's IP address; empty for a Unix socket."""
        address = _plain_address(peer)
        self._settings = settings
        self._address = address.encode()
        self._scheme = scheme.encode()
        self._appends = settings.mode is ForwardedMode.APPEND or (
            settings.mode is ForwardedMode.REPLACE
            and is_trusted(address, trusted, unix=UNIX in settings.trusted)
        )
        self._via = b"" if settings.via is None else settings.via.encode()
        self._host: bytes | None = b"\n"  # no host yet: none has a line feed
        self._lines = b""

    def depends_on(self, headers: dict[bytes, bytes]) -> bool:
        """Whether the lines are another request's only if these headers are equal too."""
        return self._appends and not NAMES.isdisjoint(headers)

    def lines(self, headers: dict[bytes, bytes], *, http10: bool = False) -> bytes:
        """Field lines for a request with `headers` (lower-case names), each with its line end."""
        host = headers.get(b"host")
        if http10 or self.depends_on(headers):
            return self._made(headers, host, http10=http10)
        if host != self._host:
            self._host = host
            self._lines = self._made({}, host, http10=False)
        return self._lines

    def _made(self, headers: dict[bytes, bytes], host: bytes | None, *, http10: bool) -> bytes:
        settings = self._settings
        before = headers if self._appends else {}
        made: list[bytes] = []
        if settings.mode is not ForwardedMode.OFF:
            if settings.form is not ForwardedForm.FORWARDED:
                made += self._x_forwarded(before, host)
            if settings.form is not ForwardedForm.X_FORWARDED:
                made.append(_line(FORWARDED, before.get(FORWARDED), self._element(host)))
            if self._appends:
                made += [_line(name, before[name], b"") for name in _other(settings.form, before)]
        if self._via:
            made.append(b"via: %b %b\r\n" % (b"1.0" if http10 else b"1.1", self._via))
        return b"".join(made)

    def _x_forwarded(self, before: dict[bytes, bytes], host: bytes | None) -> list[bytes]:
        """The address is added to those before it; scheme and host are the first proxy's."""
        made = []
        if self._address or FORWARDED_FOR in before:
            made.append(_line(FORWARDED_FOR, before.get(FORWARDED_FOR), self._address))
        made.append(_line(FORWARDED_PROTO, None, before.get(FORWARDED_PROTO, self._scheme)))
        first_host = before.get(FORWARDED_HOST, host)
        if first_host:
            made.append(_line(FORWARDED_HOST, None, first_host))
        return made

    def _element(self, host: bytes | None) -> bytes:
        """RFC 7239, 4: an IPv6 address in brackets and quotes, and so whatever is no token.

        A host may be `a;for=192.0.2.1`, which without quotes would be another parameter.
        """
        address = self._address or b"unknown"
        if b":" in address:
            address = b'"[%b]"' % address
        stated = b";host=" + (host if is_token(host) else b'"%b"' % host) if host else b""
        return b"for=%b%b;proto=%b" % (address, stated, self._scheme)


def is_trusted(
    address: str, networks: Sequence[IPv4Network | IPv6Network], *, unix: bool = False
) -> bool:
    """Whether this peer's own forwarding headers are believed. An empty address: a Unix socket."""
    if not address:
        return unix
    ip = ip_address(address)
    return any(ip in network for network in networks)


def _plain_address(peer: str) -> str:
    """Without a zone, and IPv4 as such where it came over an IPv6 socket."""
    if not peer:
        return ""
    ip = ip_address(peer.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return str(mapped or ip)


def _line(name: bytes, before: bytes | None, value: bytes) -> bytes:
    both = value if before is None else before + b", " + value if value else before
    return b"%b: %b\r\n" % (name, both)


def _other(form: ForwardedForm, before: dict[bytes, bytes]) -> list[bytes]:
    """What a trusted client said in the form that we do not write: passed on as it came."""
    if form is ForwardedForm.X_FORWARDED:
        return [FORWARDED] if FORWARDED in before else []
    if form is ForwardedForm.FORWARDED:
        return sorted((NAMES - {FORWARDED}) & before.keys())
    return []
