"""Listening sockets: bound once by the supervisor, inherited by every worker.

A TCP address has one socket for each worker, bound with SO_REUSEPORT, so that the kernel spreads
connections evenly. They belong to no worker: all of them are open in the supervisor and in every
worker, so what waits in a dead worker's queue is accepted by another, and an upgrade takes them
over as they are. A Unix socket has one, which all workers share.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.settings import Address

BACKLOG: Final = 1024
"""Connections that the kernel holds for each socket until we accept them; its own cap is 4,096."""

BIND_S: Final = 1.0
"""How long an address in use is tried again: workers whose supervisor was killed a moment ago are
just letting go of it."""
_BIND_AGAIN_S: Final = 0.05


class AddressTaken(OSError):
    """Another program listens there."""


async def listen(address: Address, count: int) -> list[socket.socket]:
    """Sockets that listen on `address`, with port 0 resolved: `count`, one on a Unix path.

    A host name with several addresses has as many on each.

    Raises:
        AddressTaken, OSError: it cannot be bound; no socket is left open.
    """
    ends_s = asyncio.get_running_loop().time() + BIND_S
    while True:
        try:
            return _listen(address, count)
        except AddressTaken:
            if asyncio.get_running_loop().time() > ends_s:
                raise
        await asyncio.sleep(_BIND_AGAIN_S)


def _listen(address: Address, count: int) -> list[socket.socket]:
    if address.path is not None:
        return [_unix(address.path)]
    made: list[socket.socket] = []
    port = address.port
    missing: OSError | None = None
    try:
        for family, host in _resolved(address):
            try:
                _refuse_taken(family, host, port)
            except OSError as exc:
                if exc.errno != errno.EADDRNOTAVAIL:
                    raise
                missing = exc  # `localhost` names ::1 too where there is no IPv6
                continue
            for _ in range(count):
                made.append(_tcp(family, host, port))
                port = port or made[-1].getsockname()[1]
        if missing is not None and not made:
            raise missing
    except OSError as exc:
        for each in made:
            each.close()
        raise _said(exc, address) from exc
    return made


def topped_up(sockets: Sequence[socket.socket], count: int) -> list[socket.socket]:
    """TCP sockets that listen, with further ones until there are `count` at each address."""
    found = list(sockets)
    at_address: dict[object, list[socket.socket]] = {}
    for each in sockets:
        at_address.setdefault(each.getsockname(), []).append(each)
    for same in at_address.values():
        host, port = same[0].getsockname()[:2]
        found += [_tcp(same[0].family, host, port) for _ in range(count - len(same))]
    return found


def _resolved(address: Address) -> list[tuple[int, str]]:
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((int(each[0]), str(each[4][0])) for each in found))


def _tcp(family: int, host: str, port: int) -> socket.socket:
    made = _bindable(family)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _bindable(family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.settimeout(0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made


def _refuse_taken(family: int, host: str, port: int) -> None:
    """With SO_REUSEPORT alone, two gateways would quietly share a port: bind once without it."""
    with _bindable(family) as probe:
        probe.bind((host, port))


def _unix(path: str) -> socket.socket:
    _remove_stale(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(0)
    try:
        made.bind(path)
        made.listen(BACKLOG)
    except OSError as exc:
        made.close()
        raise _said(exc, Address(path=path)) from exc
    return made


def _remove_stale(path: str) -> None:
    """A socket file that nobody listens on was left by a process that was killed."""
    with suppress(OSError):
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(BIND_S)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                Path(path).unlink()


def _said(exc: OSError, address: Address) -> OSError:
    text = f"cannot listen on {url(address)}: {exc.strerror or exc}"
    if exc.errno == errno.EADDRINUSE:
        return AddressTaken(f"{text}; another program listens there")
    return OSError(text)


def url(address: Address, *, tls: bool = False) -> str:
    """As in the `ready` line."""
    if address.path is not None:
        return f"unix:{address.path}"
    host = f"[{address.host}]" if ":" in str(address.host) else address.host
    return f"{'https' if tls else 'http'}://{host}:{address.port}"


def bound(address: Address, sockets: Sequence[socket.socket]) -> Address:
    """`address` with the port that was really taken."""
    if address.path is not None:
        return address
    return Address(host=address.host, port=sockets[0].getsockname()[1])


def names(sockets: Sequence[socket.socket]) -> list[object]:
    """What tells the sockets of one address from those of another."""
    return [each.getsockname() for each in sockets]


def shares(names: Sequence[object], workers: Sequence[int]) -> Mapping[int, tuple[int, ...]]:
    """Which of the sockets each living worker accepts from: every socket has somebody.

    `names[i]` says which address socket `i` belongs to. Sockets of one address are dealt out among
    the workers in turn; where there are fewer sockets than workers, several share one.
    """
    taken: dict[int, list[int]] = {worker: [] for worker in workers}
    at_address: dict[object, list[int]] = {}
    for index, name in enumerate(names):
        at_address.setdefault(name, []).append(index)
    for sockets in at_address.values():
        for turn, index in enumerate(sockets):
            for place, worker in enumerate(workers):
                if place % len(sockets) == turn % len(workers):
                    taken[worker].append(index)
    return {worker: tuple(sorted(sockets)) for worker, sockets in taken.items()}


def inherited(descriptor: int) -> socket.socket:
    """A socket that this process was started with, or was sent; closed on exec."""
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - its signature
    made = socket.socket(fileno=descriptor)
    made.settimeout(0)
    return made
