"""Chunks on their way at the same time: bounded, in order, and over with the first failure."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Barrier

import pytest

from mlops.artifact_store.parallel import PARALLEL_CHUNKS, Told, in_parallel


def test_results_come_in_order_and_few_items_are_taken_ahead() -> None:
    done: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            assert number - len(done) <= PARALLEL_CHUNKS
            yield number

    def work(number: int) -> int:
        done.append(number)
        return number * number

    assert list(in_parallel(work, items())) == [number * number for number in range(20)]


def test_several_are_on_their_way_at_a_time() -> None:
    """Or none of them would get past the barrier."""
    barrier = Barrier(PARALLEL_CHUNKS, timeout=20)
    assert len(list(in_parallel(lambda _: barrier.wait(), range(PARALLEL_CHUNKS)))) == 4


def test_after_a_failure_no_more_are_taken() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    def work(number: int) -> int:
        raise OSError(f"disk {number}")

    with pytest.raises(OSError, match="disk 0"):
        list(in_parallel(work, items()))
    assert len(taken) <= PARALLEL_CHUNKS + 1


def test_progress_adds_up() -> None:
    told: list[tuple[int, int]] = []
    counter = Told(lambda done, total: told.append((done, total)), 5)
    counter.done(2)
    counter.done(3)
    assert told == [(2, 5), (5, 5)]
