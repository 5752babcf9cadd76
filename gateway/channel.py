"""What the supervisor and a worker say to each other, over a pair of connected sockets.

Each message is four bytes of length and MessagePack. Only values cross, so either side can be
tested alone. A worker is started from the files on disk, which may be newer than the supervisor:
unknown fields are ignored, and `PROTOCOL` says when that is not enough.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import msgspec
from msgspec.msgpack import Decoder

from gateway.counts import Counts
from gateway.settings import GatewaySettings, RouteSettings
from mlops.contracts.plan import RoutePlan

PROTOCOL: Final = 1
"""Raised when a message changes in a way that the other side could misunderstand."""
MAX_MESSAGE_BYTES: Final = 64 * 1024**2
"""A thousand routes with a thousand endpoints each are less."""
DRAIN_IDLE_S: Final = 1.0
"""At the end of a gateway a client that is about to ask on an idle connection has so long."""
_LENGTH_BYTES: Final = 4
_READ_BYTES: Final = 64 * 1024
"""Held unread from the other end before it is made to wait."""


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all: the tag is the name of the class."""


class LivePlanValue(msgspec.Struct, frozen=True, kw_only=True):
    """A plan in force. The end of its lease is on the machine's monotonic clock, in seconds."""

    plan: RoutePlan
    lease_ends_at_s: float


# ---- from the supervisor -----------------------------------------------------------------------


class Start(_Message, frozen=True):
    """The first message. Answered with `Ready` or `Failed`."""

    protocol: int
    index: int
    settings: GatewaySettings
    """Without routes, which follow with their plans, and without the admin port's tokens."""


class Prepare(_Message, frozen=True):
    """Try out a change without putting it in force. Answered with `Done` or `Refused`."""

    number: int
    plans: tuple[LivePlanValue, ...]
    routes: tuple[RouteSettings, ...] | None = None
    """All routes from now on, in order; None: the same as before."""


class Commit(_Message, frozen=True):
    """Put in force what was prepared last. Answered with `Done`."""

    number: int


class Forget(_Message, frozen=True):
    """What was prepared last is not to be. Answered with nothing."""


class Listen(_Message, frozen=True):
    """Accept clients from these of the inherited sockets, and from no others."""

    sockets: tuple[int, ...]


class Ask(_Message, frozen=True):
    """Answered with `Counted`."""

    number: int


class Drain(_Message, frozen=True):
    """Accept no more, let what is under way finish for at most `timeout_s`, then end.

    A second one puts another bound in place of the first.
    """

    timeout_s: float
    idle_s: float
    """A client connection on which nothing happens is closed after so long."""


# ---- from a worker -----------------------------------------------------------------------------


class Ready(_Message, frozen=True):
    """It can serve, and waits for its routes."""

    name: str
    """Under which it spools; empty where nothing is recorded."""


class Failed(_Message, frozen=True):
    """It cannot start, and ends."""

    reason: str


class Done(_Message, frozen=True):
    """What was asked under this number has happened."""

    number: int


class Refused(_Message, frozen=True):
    """What was asked under this number cannot be done; nothing changed."""

    number: int
    reason: str


class Counted(_Message, frozen=True):
    """`number` is 0 in the last words of a worker that ends."""

    number: int
    counts: Counts


ToWorker = Start | Prepare | Commit | Forget | Listen | Ask | Drain
FromWorker = Ready | Failed | Done | Refused | Counted

M = TypeVar("M")


def _encode_other(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value))


def _decode_other(kind: type, value: Any) -> Any:
    if issubclass(kind, Path):
        return kind(value)
    raise NotImplementedError(kind)


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_other)

START: Final[Decoder[Start]] = Decoder(Start, dec_hook=_decode_other)
TO_WORKER: Final[Decoder[ToWorker]] = Decoder(ToWorker, dec_hook=_decode_other)
STARTED: Final[Decoder[Ready | Failed]] = Decoder(Ready | Failed)
FROM_WORKER: Final[Decoder[FromWorker]] = Decoder(FromWorker)
"""What `Channel.receive` may be asked for."""


class BadMessage(ValueError):
    """What came is no message of this program."""


class Channel:
    """One end. Sending never waits: what is unsent is bounded by what the other end is asked."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """Take over one end of a connected pair."""
        return cls(*await asyncio.open_unix_connection(sock=end, limit=_READ_BYTES))

    def send(self, message: msgspec.Struct) -> None:
        """Queue a message; to an end that has gone it is dropped."""
        if self._writer.is_closing():
            return
        body = _encoder.encode(message)
        self._writer.write(len(body).to_bytes(_LENGTH_BYTES, "big") + body)

    async def flush(self) -> None:
        """Wait until everything queued is with the kernel, or the other end has gone."""
        try:
            self._writer.transport.set_write_buffer_limits(high=0)
            await self._writer.drain()
        except OSError:
            return

    async def receive(self, kind: Decoder[M]) -> M | None:
        """The next message; None where the other end has gone.

        Raises:
            BadMessage: the bytes make no such message.
        """
        try:
            head = await self._reader.readexactly(_LENGTH_BYTES)
            size = int.from_bytes(head, "big")
            if size > MAX_MESSAGE_BYTES:
                raise BadMessage(f"message of {size:,} bytes, at most {MAX_MESSAGE_BYTES:,}")
            body = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError):
            return None
        try:
            return kind.decode(body)
        except msgspec.DecodeError as error:
            raise BadMessage(f"message of {size:,} bytes: {error}") from error

    def close(self) -> None:
        """What is still queued goes out where the other end reads it."""
        self._writer.close()
