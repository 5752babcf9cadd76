"""The supervisor's listening sockets: bound, or taken over from a predecessor."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway import listening
from gateway.handover import HandedSocket
from gateway.settings import Address, GatewaySettings


class Ports:
    """The data ports, with as many sockets as there are workers, and the admin port."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.data: dict[Address, list[socket.socket]] = {}
        """By address as in the file."""
        self.admin: list[socket.socket] = []
        self._listen = settings.listen
        self._workers = settings.workers
        self._tls = settings.tls is not None
        self._admin_tls = settings.admin.tls is not None
        self._admin = Address(host=settings.admin.host, port=settings.admin.port)

    async def open(self, taken: Mapping[tuple[Address, bool], list[socket.socket]]) -> None:
        """Bind what is not in `taken`, by address and whether it is the admin port's.

        Raises:
            OSError: an address cannot be bound.
        """
        for address in self._listen:
            sockets = taken.get((address, False))
            if sockets is None:
                sockets = await listening.listen(address, self._workers)
            elif address.path is None:
                sockets = listening.topped_up(sockets, self._workers)
            self.data[address] = sockets
        self.admin = taken.get((self._admin, True)) or await listening.listen(self._admin, 1)
        kept = {id(each) for each in self.all}
        for each in (each for sockets in taken.values() for each in sockets):
            if id(each) not in kept:
                each.close()  # the new file no longer listens there

    @property
    def data_sockets(self) -> list[socket.socket]:
        """Of every data address, in the file's order: as workers inherit them."""
        return [each for sockets in self.data.values() for each in sockets]

    @property
    def all(self) -> list[socket.socket]:
        """The data ports' sockets, then the admin port's: as they are handed over."""
        return [*self.data_sockets, *self.admin]

    def handed(self) -> tuple[HandedSocket, ...]:
        """What a successor needs to know of `all`, in that order."""
        data = [
            HandedSocket(address=address, is_admin=False)
            for address, sockets in self.data.items()
            for _ in sockets
        ]
        return (*data, *(HandedSocket(address=self._admin, is_admin=True) for _ in self.admin))

    def ready_line(self) -> str:
        """Where we listen, with port 0 resolved."""
        data = ",".join(_url(*each, tls=self._tls) for each in self.data.items())
        return f"ready {data} admin {_url(self._admin, self.admin, tls=self._admin_tls)}\n"

    def refuse(self) -> None:
        """Let go of the data sockets: once the workers have too, who connects is refused at once
        instead of waiting for somebody to accept."""
        for each in self.data_sockets:
            each.close()

    def close(self, *, remove_paths: bool) -> None:
        """`remove_paths`: nobody else listens on the Unix sockets."""
        for each in self.all:
            each.close()
        for address in self.data:
            if address.path is not None and remove_paths:
                Path(address.path).unlink(missing_ok=True)


def _url(address: Address, sockets: Sequence[socket.socket], *, tls: bool = False) -> str:
    return listening.url(listening.bound(address, sockets), tls=tls)
