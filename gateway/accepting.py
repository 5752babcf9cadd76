"""From a listening socket to connections: whoever waits in its queue is taken in soon.

libuv accepts one connection in each turn of the loop. While a thousand connections are busy a turn
takes tens of milliseconds, and somebody who connects behind a hundred others waited for seconds.
So with each connection that the loop accepts, those behind it in the queue are accepted as well.
"""

from __future__ import annotations

import asyncio
import select
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


class Acceptor:
    """Serves each connection to one listening socket with a protocol of its own, until `close`."""

    __slots__ = ("_listening", "_loop", "_protocol", "_server", "_taking_in", "_tls")

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext | None,
    ) -> None:
        """`listening` is this one's from now on. `context` is not for Unix sockets."""
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._protocol = protocol
        self._tls = {} if listening.family == socket.AF_UNIX else _tls(context)
        self._server: asyncio.Server | None = None
        self._taking_in = 0
        """Accepted, and not given to their protocols yet."""

    async def start(self) -> None:
        """Accept from now on; raises OSError where the loop cannot listen on the socket."""
        loop, listening, accepted = self._loop, self._listening, self._accepted
        if listening.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(
                accepted, sock=listening, backlog=BACKLOG, **_KEEP_UNIX_PATH
            )
        else:
            self._server = await loop.create_server(
                accepted, sock=listening, backlog=BACKLOG, **self._tls
            )

    def is_behind(self) -> bool:
        """Whether somebody has connected and has no protocol yet."""
        if self._taking_in:
            return True
        poll = select.poll()
        poll.register(self._listening, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Accept nobody any more; those who are connected stay."""
        if self._server is not None:
            self._server.close()

    def _accepted(self) -> asyncio.Protocol:
        """The protocol for a connection that the loop has accepted; takes in the next ones."""
        with suppress(OSError):  # nobody waits, or no descriptor is free: then the loop says so
            for _ in range(MOST_AT_ONCE):
                connection, _ = self._listening.accept()
                self._taking_in += 1
                spawn(self._take_in(connection), name="accepted connection")
        return self._protocol()

    async def _take_in(self, connection: socket.socket) -> None:
        connection.setblocking(False)  # noqa: FBT003 - its signature
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection, **self._tls)
        except OSError:  # it went away, or its handshake failed: nobody is there to be told
            connection.close()
        finally:
            self._taking_in -= 1


def _tls(context: ssl.SSLContext | None) -> dict[str, Any]:
    if context is None:
        return {}
    return {
        "ssl": context,
        "ssl_handshake_timeout": HANDSHAKE_S,
        "ssl_shutdown_timeout": SHUTDOWN_S,
    }
