"""Ports and paths: bound once, refused where somebody listens, freed where nobody does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway import listening
from gateway.listening import AddressTaken, bound, listen, topped_up, url
from gateway.settings import Address


@contextmanager
def closing(sockets: list[socket.socket]) -> Iterator[list[socket.socket]]:
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()


async def test_any_port_is_one_port_for_every_worker() -> None:
    address = Address(host="127.0.0.1", port=0)
    with closing(await listen(address, 3)) as sockets:
        assert len({each.getsockname() for each in sockets}) == 1
        port = sockets[0].getsockname()[1]
        assert bound(address, sockets) == Address(host="127.0.0.1", port=port)


async def test_more_workers_get_further_sockets_at_the_same_port() -> None:
    with closing(topped_up(await listen(Address(host="127.0.0.1"), 1), 3)) as sockets:
        assert len(sockets) == 3
        assert len({each.getsockname() for each in sockets}) == 1


async def test_a_port_that_somebody_listens_on_is_refused() -> None:
    with closing(await listen(Address(host="127.0.0.1"), 2)) as sockets:
        address = bound(Address(host="127.0.0.1"), sockets)
        with pytest.raises(AddressTaken, match="another program listens there"):
            listening._listen(address, 1)


async def test_a_host_name_is_bound_wherever_it_can_be() -> None:
    with closing(await listen(Address(host="localhost"), 1)) as sockets:
        assert len({each.getsockname()[1] for each in sockets}) == 1


async def test_a_path_that_was_left_behind_is_taken_and_one_in_use_is_not(
    tmp_path: Path,
) -> None:
    address = Address(path=str(tmp_path / "data.sock"))
    with closing(await listen(address, 4)) as sockets:
        assert len(sockets) == 1
        with pytest.raises(AddressTaken):
            listening._listen(address, 1)
    with closing(await listen(address, 1)):
        pass
    file = tmp_path / "file"
    file.write_text("kept")
    with pytest.raises(AddressTaken):
        listening._listen(Address(path=str(file)), 1)
    assert file.read_text() == "kept"


def test_addresses_are_written_as_the_ready_line_needs_them() -> None:
    assert url(Address(host="::1", port=80)) == "http://[::1]:80"
    assert url(Address(path="/run/x")) == "unix:/run/x"
