"""From a listening socket to connections: whoever waits in its queue is taken in soon.

libuv accepts one connection in each turn of the loop. While a thousand connections are busy a turn
takes tens of milliseconds, and somebody who connects behind a hundred others waited for seconds.
So with each connection that the loop accepts, those behind it in the queue are accepted as well.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from gateway.listening import BACKLOG
from gateway.tls import HANDSHAKE_S, SHUTDOWN_S
from mlops.service.aio import spawn

if TYPE_CHECKING:
    import ssl

MOST_AT_ONCE: Final = 64
"""Taken from the queue in one turn of the loop: some milliseconds, in which nobody is served."""

_KEEP_UNIX_PATH: Final[dict[str, Any]] = (
    {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
)
"""The path of a Unix socket belongs to whoever bound it; a worker only accepts from it."""


async def accept_from(
    listening: socket.socket,
    protocol: Callable[[], asyncio.Protocol],
    context: ssl.SSLContext | None = None,
) -> asyncio.Server:
    """Serve each connection with a `protocol` of its own until the server is closed.

    `listening` is the server's from now on. `context` is for TCP only.
    """
    loop = asyncio.get_running_loop()
    if listening.family == socket.AF_UNIX:
        queue = _Queue(loop, listening, protocol, {})
        return await loop.create_unix_server(
            queue.accepted, sock=listening, backlog=BACKLOG, **_KEEP_UNIX_PATH
        )
    tls = _tls(context)
    queue = _Queue(loop, listening, protocol, tls)
    return await loop.create_server(queue.accepted, sock=listening, backlog=BACKLOG, **tls)


def _tls(context: ssl.SSLContext | None) -> dict[str, Any]:
    if context is None:
        return {}
    return {
        "ssl": context,
        "ssl_handshake_timeout": HANDSHAKE_S,
        "ssl_shutdown_timeout": SHUTDOWN_S,
    }


class _Queue:
    """The kernel's queue of one listening socket."""

    __slots__ = ("_listening", "_loop", "_protocol", "_tls")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        tls: dict[str, Any],
    ) -> None:
        self._loop = loop
        self._listening = listening
        self._protocol = protocol
        self._tls = tls

    def accepted(self) -> asyncio.Protocol:
        """The protocol for a connection that the loop has accepted; takes in the next ones."""
        with suppress(OSError):  # nobody waits, or no descriptor is free: then the loop says so
            for _ in range(MOST_AT_ONCE):
                connection, _ = self._listening.accept()
                spawn(self._serve(connection), name="accepted connection")
        return self._protocol()

    async def _serve(self, connection: socket.socket) -> None:
        connection.setblocking(False)  # noqa: FBT003 - its signature
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection, **self._tls)
        except OSError:  # it went away, or its handshake failed: nobody is there to be told
            connection.close()
