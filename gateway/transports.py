"""What the protocols ask of their transports beyond reading and writing."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER, with no time to linger."""


def reset(transport: asyncio.Transport) -> None:
    """Close so that nobody takes it for an end: to HTTP/1.0 a close ends an answer."""
    opened = transport.get_extra_info("socket")
    if opened is not None and opened.family != socket.AF_UNIX:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


def peer_address(transport: asyncio.BaseTransport) -> str:
    """The other side's IP address; empty on a Unix socket."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else ""


def is_tls(transport: asyncio.BaseTransport) -> bool:
    """Whether the other side speaks TLS with us."""
    return transport.get_extra_info("sslcontext") is not None
