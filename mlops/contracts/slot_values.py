"""What a slot may hold: one set of rules for the gateway that uses it and all who write plans.

Versions and headers end up in HTTP heads, so whatever could break a head apart is refused here.
Everything raises ValueError saying what was expected and what came; never a header's value or the
user information of an address, which may be credentials.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import NamedTuple

MAX_VERSION_CHARS = 256
"""An image's whole name with its digest fits."""
MAX_HEADER_VALUE_CHARS = 8192
"""Common servers take no longer line."""
MAX_UNIX_PATH_BYTES = 107
"""Linux: 108 with the closing NUL."""
DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_PORT = 65_535

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110's token: a method, or the name of a header or cookie."""
_ENDPOINT = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<ipv6>[0-9A-Za-z:.%_-]+)\]|(?P<host>[0-9A-Za-z._-]{1,253}))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_USER_INFORMATION = re.compile(r"//.*@", re.DOTALL)
_RESERVED_HEADERS = frozenset(
    {"connection", "content-length", "expect", "http2-settings", "keep-alive", "proxy-connection",
     "te", "trailer", "transfer-encoding", "upgrade", "x-request-id"}
)  # fmt: skip
"""How a message is framed or its connection used (RFC 9112), and the gateway's own id."""


class Endpoint(NamedTuple):
    """`host` and `port`, or `path` of a Unix socket."""

    host: str | None
    port: int
    path: str | None
    tls: bool = False


def check_version(text: str) -> None:
    """Raise ValueError unless the text can name a version in one line of any log or header."""
    if not text:
        raise ValueError("version is empty; expected the name of a version")
    if len(text) > MAX_VERSION_CHARS:
        raise ValueError(
            f"version {text[:40]!r}... has {len(text)} characters; "
            f"expected at most {MAX_VERSION_CHARS}"
        )
    if not text.isprintable() or text != text.strip():
        raise ValueError(
            f"version {text!r}: expected printable text in one line without spaces around it"
        )


def parse_endpoint(text: str) -> Endpoint:
    """`http[s]://HOST:PORT` (80 or 443 where no port is given) or `unix:PATH`; nothing follows."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or not path.isprintable() or len(path.encode()) > MAX_UNIX_PATH_BYTES:
            raise ValueError(
                f"endpoint {_shown(text)}: expected unix:PATH with a printable path of at most "
                f"{MAX_UNIX_PATH_BYTES} bytes"
            )
        return Endpoint(None, 0, path)
    found = _ENDPOINT.fullmatch(text)
    if found is None:
        raise ValueError(
            f"endpoint {_shown(text)}: expected http://HOST:PORT and nothing after it, "
            "https://HOST:PORT or unix:PATH"
        )
    port = int(found["port"] or DEFAULT_PORTS[found["scheme"]])
    if not 1 <= port <= _MAX_PORT:
        raise ValueError(f"endpoint {_shown(text)}: expected a port from 1 to {_MAX_PORT}")
    host = found["host"]
    if host is None:
        host = found["ipv6"]
        try:
            IPv6Address(host)
        except ValueError as exc:
            raise ValueError(f"endpoint {_shown(text)}: expected an IPv6 address in []") from exc
    return Endpoint(host, port, None, found["scheme"] == "https")


def check_header(name: str, value: str) -> None:
    """Raise ValueError unless a slot may add this header."""
    if not TOKEN.fullmatch(name):
        raise ValueError(f"expected the name of a header, got {name!r}")
    if name.lower() in _RESERVED_HEADERS:
        raise ValueError(f"the header {name!r} is the gateway's own; it cannot be set")
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"the value of the header {name!r} is not printable ASCII")
    if len(value) > MAX_HEADER_VALUE_CHARS:
        raise ValueError(
            f"the value of the header {name!r} has {len(value):,} characters; "
            f"expected at most {MAX_HEADER_VALUE_CHARS:,}"
        )


def _shown(endpoint: str) -> str:
    """The address for an error, without a user's name and password."""
    return repr(_USER_INFORMATION.sub("//(hidden)@", endpoint)[:200])
