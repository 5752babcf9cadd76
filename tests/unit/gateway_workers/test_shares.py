"""Who accepts from which listening socket: always somebody, and evenly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.crew import MAX_RESTART_DELAY_S, restart_delay_s
from gateway.listening import shares


def test_each_worker_has_a_socket_of_its_own_and_all_share_a_unix_path() -> None:
    names = ["tcp", "tcp", "unix"]
    assert shares(names, [0, 1]) == {0: (0, 2), 1: (1, 2)}


def test_the_socket_of_a_dead_worker_is_taken_by_another() -> None:
    names = ["tcp"] * 3
    assert shares(names, [0, 2]) == {0: (0, 2), 2: (1,)}
    assert shares(names, [1]) == {1: (0, 1, 2)}
    assert shares(names, []) == {}


@given(
    per_address=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    workers=st.sets(st.integers(0, 20), min_size=1, max_size=9),
)
def test_every_socket_has_somebody_and_the_shares_differ_by_one_at_most(
    per_address: list[int], workers: set[int]
) -> None:
    names = [address for address, count in enumerate(per_address) for _ in range(count)]
    found = shares(names, sorted(workers))
    assert set(found) == workers
    assert {index for sockets in found.values() for index in sockets} == set(range(len(names)))
    for address, count in enumerate(per_address):
        sizes = [sum(names[i] == address for i in sockets) for sockets in found.values()]
        if count >= len(workers):
            assert sum(sizes) == count
        assert max(sizes) - min(sizes) <= 1


def test_the_first_replacement_is_at_once_and_later_ones_wait_longer_up_to_a_bound() -> None:
    delays = [restart_delay_s(failures) for failures in range(20)]
    assert delays[:4] == [0.0, 0.0, 0.25, 0.5]
    assert delays == sorted(delays)
    assert delays[-1] == MAX_RESTART_DELAY_S
