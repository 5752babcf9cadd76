"""Handing a running gateway over to its successor: an upgrade without one failed request.

The successor connects to a Unix socket in the state directory and is given the lock, every
listening socket, every plan with its lease, and what was counted. It starts its workers; once they
accept it says so, and only then does the old one stop accepting and drain. Up to there the old one
serves as before, and goes on doing so if anything fails.

    successor            (connects)   Serving              Unless `Abandoned`, or silence, it is
    predecessor  Handover, sockets             Yours  ...  Last      the gateway from `Yours` on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec.msgpack import Decoder

from gateway.channel import BadMessage, Channel
from gateway.counts import Counts
from gateway.plans import CarriedPlan
from gateway.settings import Address

SOCKET_NAME: Final = "upgrade.sock"
HANDOVER_S: Final = 5.0
"""For the successor's workers to be ready, which takes half a second. No plan changes meanwhile, so
a rollback waits no longer than this for a successor that hangs."""
_SEND_S: Final = 2.0
"""For the first messages, which both sides are waiting for."""
_AT_ONCE: Final = 64
"""Descriptors in one message; the kernel takes up to 253."""
_COUNT: Final = struct.Struct("!I")


class HandedSocket(msgspec.Struct, frozen=True, kw_only=True):
    """One listening socket; its descriptor is sent beside, in the same order."""

    address: Address
    """As in the file: with port 0 where any port was asked for."""
    is_admin: bool


class Handover(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The predecessor's first message; the descriptors have come before it."""

    plans: tuple[CarriedPlan, ...]
    sockets: tuple[HandedSocket, ...]
    counts: Counts


class Serving(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The successor's workers accept clients."""


class Yours(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The predecessor accepts no client and no change any more."""


class Abandoned(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The predecessor has waited too long, and stays."""


class Last(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What was counted when the predecessor's last worker has ended."""

    counts: Counts


_HANDOVER: Final[Decoder[Handover]] = Decoder(Handover)
_SERVING: Final[Decoder[Serving]] = Decoder(Serving)
_ANSWER: Final[Decoder[Yours | Abandoned]] = Decoder(Yours | Abandoned)
_LAST: Final[Decoder[Last]] = Decoder(Last)


class UpgradeFailed(RuntimeError):
    """The running gateway was not taken over, and serves on."""


def listen(directory: Path) -> socket.socket:
    """Where a successor connects. Whatever lay there is a predecessor's.

    Raises:
        OSError: the directory cannot be written to.
    """
    (directory / SOCKET_NAME).unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(0)
    with _short(directory) as path:
        made.bind(path)
    (directory / SOCKET_NAME).chmod(0o600)
    made.listen(1)
    return made


@contextlib.contextmanager
def _short(directory: Path) -> Iterator[str]:
    """The socket's path, however deep it lies: the kernel takes no more than 107 bytes."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


# ---- the one that runs -------------------------------------------------------------------------


class Successor:
    """A process that connected, as the running gateway sees it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    @classmethod
    async def accept(cls, listening: socket.socket) -> socket.socket:
        """Wait for one that may: of our user, or root."""
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listening)
            if _peer_uid(connection) in (0, os.geteuid()):
                return connection
            connection.close()

    @classmethod
    async def give(
        cls, connection: socket.socket, handover: Handover, descriptors: Sequence[int]
    ) -> Successor:
        """Send everything. Raises UpgradeFailed where it has gone."""
        try:
            await asyncio.to_thread(_send_descriptors, connection, descriptors)
        except OSError as exc:
            connection.close()
            raise UpgradeFailed(f"the new process has gone: {exc}") from exc
        connection.settimeout(0)
        channel = await Channel.over(connection)
        channel.send(handover)
        return cls(channel)

    async def serves(self) -> None:
        """Wait until its workers accept. Raises UpgradeFailed."""
        try:
            async with asyncio.timeout(HANDOVER_S):
                serving = await self._channel.receive(_SERVING)
        except (TimeoutError, BadMessage) as exc:
            self._channel.send(Abandoned())
            self._channel.close()
            said = str(exc) or f"it did not serve within {HANDOVER_S:g} s"
            raise UpgradeFailed(f"the new process failed: {said}") from exc
        if serving is None:
            self._channel.close()
            raise UpgradeFailed("the new process ended before it could serve; its log says why")

    async def take_over(self) -> None:
        """Tell it that it is the gateway now."""
        self._channel.send(Yours())
        await self._channel.flush()

    async def tell(self, counts: Counts) -> None:
        """Hand on what was counted to the very end."""
        self._channel.send(Last(counts=counts))
        await self._channel.flush()
        self._channel.close()


def _peer_uid(connection: socket.socket) -> int:
    size = struct.calcsize("3i")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, uid, _ = struct.unpack("3i", credentials)
    return int(uid)


def _send_descriptors(connection: socket.socket, descriptors: Sequence[int]) -> None:
    connection.settimeout(_SEND_S)
    connection.sendall(_COUNT.pack(len(descriptors)))
    for start in range(0, len(descriptors), _AT_ONCE):
        socket.send_fds(connection, [b"\0"], descriptors[start : start + _AT_ONCE])


# ---- the one that takes over -------------------------------------------------------------------


class Predecessor:
    """The running gateway, as its successor sees it."""

    def __init__(self, channel: Channel, handover: Handover, descriptors: Sequence[int]) -> None:
        self.plans = {carried.plan.route: carried for carried in handover.plans}
        self.counts = handover.counts
        self.lock, *rest = descriptors
        self.sockets: dict[tuple[Address, bool], list[socket.socket]] = {}
        """By address as in its file, and whether it is the admin port's."""
        for handed, descriptor in zip(handover.sockets, rest, strict=True):
            at_address = self.sockets.setdefault((handed.address, handed.is_admin), [])
            at_address.append(socket.socket(fileno=descriptor))
        self._channel = channel

    @classmethod
    async def find(cls, directory: Path) -> Predecessor:
        """Ask the gateway that runs on this state directory for everything.

        Raises:
            UpgradeFailed: none runs there, or it does not hand over.
        """
        try:
            connection = await asyncio.to_thread(_connect, directory)
        except OSError as exc:
            raise UpgradeFailed(
                f"state: no gateway runs on {directory} that could be upgraded "
                f"({exc.strerror or exc}); start one without --upgrade"
            ) from exc
        try:
            descriptors = await asyncio.to_thread(_receive_descriptors, connection)
            connection.settimeout(0)
            channel = await Channel.over(connection)
            async with asyncio.timeout(_SEND_S):
                handover = await channel.receive(_HANDOVER)
        except (OSError, BadMessage) as exc:  # TimeoutError is an OSError
            connection.close()
            raise UpgradeFailed(f"the running gateway hands nothing over: {exc}") from exc
        if handover is None:
            raise UpgradeFailed("the running gateway has ended; start one without --upgrade")
        return cls(channel, handover, descriptors)

    async def release(self) -> None:
        """Say that we serve, and wait until it no longer does.

        Raises:
            UpgradeFailed: it had waited too long, and stays.
        """
        self._channel.send(Serving())
        try:
            # Longer than the other waits for us: it may have been stopped, and read this once it
            # goes on. Whoever gave up here before would leave the ports to nobody.
            async with asyncio.timeout(HANDOVER_S + _SEND_S):
                answer = await self._channel.receive(_ANSWER)
        except (TimeoutError, BadMessage):
            answer = Abandoned()
        if isinstance(answer, Abandoned):
            raise UpgradeFailed("the running gateway did not let go in time, and serves on")
        # None: it died in this moment. Then nobody but us serves.

    async def last_counts(self) -> Counts | None:
        """When its last worker has ended; None where that cannot be known."""
        with contextlib.suppress(BadMessage):
            last = await self._channel.receive(_LAST)
            return last.counts if last is not None else None
        return None


def _connect(directory: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(HANDOVER_S)
    try:
        with _short(directory) as path:
            made.connect(path)
    except OSError:
        made.close()
        raise
    return made


def _receive_descriptors(connection: socket.socket) -> list[int]:
    data = connection.recv(_COUNT.size, socket.MSG_WAITALL)
    if len(data) < _COUNT.size:
        raise OSError("it closed the connection")
    (count,) = _COUNT.unpack(data)
    found: list[int] = []
    while len(found) < count:
        data, descriptors, _, _ = socket.recv_fds(connection, 1, _AT_ONCE)
        if not data:
            raise OSError("it closed the connection")
        found += descriptors
    return found
