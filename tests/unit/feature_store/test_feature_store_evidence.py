"""The watermark over workers, and the shape of what is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.feature_store.evidence import (
    WORKER_GONE_AFTER_S,
    WorkerTally,
    closed_through,
    score_counts,
)

workers = st.lists(
    st.builds(WorkerTally, st.uuids().map(str), st.integers(0, 500), st.booleans()), max_size=8
)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], None),
        ([("a", 10, False)], 10),
        ([("a", 10, False), ("b", 7, False)], 7),
        ([("a", 10, False), ("b", 7, True)], 10),
        ([("a", 10, True), ("b", 7, True)], 10),
        ([("a", 70, False), ("b", 10, False)], 10),
        ([("a", 71, False), ("b", 10, False)], 71),
        ([("a", 90, True), ("b", 31, False)], 31),
    ],
)
def test_the_slowest_live_worker_decides(
    seen: list[tuple[str, int, bool]], expected: int | None
) -> None:
    assert closed_through(WorkerTally(*worker) for worker in seen) == expected


@given(workers)
def test_no_second_is_closed_that_a_live_worker_may_still_add_to(seen: list[WorkerTally]) -> None:
    closed = closed_through(seen)
    if closed is None:
        assert not seen
        return
    newest = max(worker.second for worker in seen)
    for worker in seen:
        gone = worker.final or newest - worker.second > WORKER_GONE_AFTER_S
        assert gone or closed <= worker.second


@given(workers)
def test_the_order_of_workers_does_not_matter(seen: list[WorkerTally]) -> None:
    shuffled = sorted(seen, key=lambda worker: worker.worker)

    assert closed_through(shuffled) == closed_through(seen)


def test_scores_are_whole_millionths() -> None:
    (counts,) = score_counts([(5, 7, "canary", "mrr", 3, 1_500_000, 900_000_000_000, {100: 3})])

    assert (counts.total, counts.total_squares) == (1.5, 0.9)
