"""Servers of one version against one another: which are comparable, and which stands out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.judge.margins import MIN_REQUESTS, latency_margin
from agent.judge.servers import (
    MIN_BLOCKS,
    ServerCounts,
    comparable,
    deviations_of_one,
    standing_out,
    taken_together,
)
from mlops.contracts.evidence import BIN_RATIO, LAST_BIN, LATENCY_FIRST_EDGE_US

BLOCKS, REQUESTS = 12, 600


def counts_of(
    seed: int, factors: list[float], rates: list[float] | None = None, wave: float = 0.3
) -> ServerCounts:
    """Lognormal durations of servers that are slower by `factors`; all rise and fall together."""
    rng: Any = np.random.default_rng(seed)
    shape = (BLOCKS, len(factors))
    level = 50_000 * np.exp(wave * np.sin(np.arange(BLOCKS)))[:, None, None]
    scale = np.log(level * np.array(factors)[None, :, None])
    durations = rng.lognormal(scale, 0.4, (*shape, REQUESTS))
    at = (np.log(durations / LATENCY_FIRST_EDGE_US) / np.log(BIN_RATIO)).astype(int)
    bins = np.zeros((*shape, LAST_BIN + 1), np.int64)
    for block, server in np.ndindex(shape):
        bins[block, server] = np.bincount(at[block, server], minlength=LAST_BIN + 1)
    requests = np.full(shape, REQUESTS)
    errors = rng.binomial(requests, rates if rates is not None else 0.01)
    return ServerCounts(requests=requests, errors=errors, latency_bins=bins)


def test_servers_that_are_alike_are_named_seldom() -> None:
    named = sum(bool(standing_out(counts_of(seed, [1.0] * 4))) for seed in range(200))

    assert named <= 7  # 1 % allowed; more than this has a chance of 1 in 1,000


@pytest.mark.parametrize(("factor", "sign"), [(1.1, 1), (0.9, -1)])
def test_the_one_that_is_slower_or_faster_than_the_others_is_named(
    factor: float, sign: int
) -> None:
    found = {one.figure: one for one in standing_out(counts_of(1, [1.0, 1.0, factor, 1.0]))}

    assert found["p50"].server == 2
    assert found["p50"].difference == pytest.approx(factor - 1, abs=0.02)
    assert found["p50"].difference * sign > 0
    assert "errors" not in found


def test_of_two_servers_the_worse_one_is_named() -> None:
    for factors, worse in (([1.0, 1.1], 1), ([1.1, 1.0], 0)):
        named = {one.server for one in standing_out(counts_of(2, factors))}
        assert named == {worse}


def test_a_server_that_fails_more_often_is_named_by_its_errors_alone() -> None:
    (found,) = standing_out(counts_of(3, [1.0] * 3, [0.01, 0.06, 0.01]))

    assert (found.server, found.figure) == (1, "errors")
    assert found.difference == pytest.approx(0.05, abs=0.01)


def test_a_difference_that_matters_to_nobody_is_not_named() -> None:
    bins = np.zeros((BLOCKS, 2, LAST_BIN + 1), np.int64)
    bins[:, 0, 200], bins[:, 1, 200] = 100_000, 100_000
    errors = np.zeros((BLOCKS, 2), np.int64)
    errors[:, 1] = 50
    requests = bins.sum(axis=2)

    assert standing_out(ServerCounts(requests=requests, errors=errors, latency_bins=bins)) == ()
    errors[:, 1] = 200
    (found,) = standing_out(ServerCounts(requests=requests, errors=errors, latency_bins=bins))
    assert (found.server, found.difference) == (1, pytest.approx(0.002))


def test_too_little_names_nobody() -> None:
    whole = counts_of(4, [1.0, 1.5])
    one = ServerCounts(
        requests=whole.requests[:, :1],
        errors=whole.errors[:, :1],
        latency_bins=whole.latency_bins[:, :1],
    )
    short = ServerCounts(
        requests=whole.requests[: MIN_BLOCKS - 1],
        errors=whole.errors[: MIN_BLOCKS - 1],
        latency_bins=whole.latency_bins[: MIN_BLOCKS - 1],
    )

    assert standing_out(whole)
    assert standing_out(one) == standing_out(short) == ()


def test_servers_are_compared_where_each_answered_often_enough() -> None:
    enough = np.full((BLOCKS, 3), MIN_REQUESTS)
    present, together = comparable(enough) or ((), 0)
    assert (list(present), together) == ([0, 1, 2], 1)

    present, together = comparable(enough // 2) or ((), 0)
    assert (list(present), together) == ([0, 1, 2], 2)

    gone = enough.copy()
    gone[-2:, 1] = 0
    present, together = comparable(gone) or ((), 0)
    assert (list(present), together) == ([0, 2], 1)


def test_a_server_with_little_traffic_is_waited_for_and_not_left_out() -> None:
    uneven = np.full((BLOCKS, 2), [MIN_REQUESTS * 2, MIN_REQUESTS // 3 + 1])
    uneven = np.column_stack([uneven, uneven[:, 0]])
    present, together = comparable(uneven) or ((), 0)

    assert (list(present), together) == ([0, 1, 2], 3)


@pytest.mark.parametrize(
    "requests",
    [
        np.zeros((BLOCKS, 0), np.int64),
        np.full((BLOCKS, 1), 10_000),
        np.full((BLOCKS, 2), 10),
        np.full((MIN_BLOCKS - 1, 2), 10_000),
        np.vstack([np.full((BLOCKS - 1, 2), [9_000, 0]), np.full((1, 2), [0, 9_000])]),
    ],
    ids=["none", "one", "too few requests", "too short", "one after the other"],
)
def test_nothing_is_compared_with_too_little(requests: Any) -> None:
    assert comparable(requests) is None


def test_blocks_are_taken_together_from_the_newest_on() -> None:
    counts = np.arange(10).reshape(5, 2)

    assert taken_together(counts, 2).tolist() == [[2 + 4, 3 + 5], [6 + 8, 7 + 9]]
    assert taken_together(counts, 1).tolist() == counts.tolist()


def test_a_canary_on_one_server_needs_more_room_the_fewer_it_is_against() -> None:
    bins = counts_of(5, [1.0, 1.2], wave=0).latency_bins
    alone = latency_margin(bins, deviations_of_one(2))
    many = latency_margin(bins, deviations_of_one(100))

    assert alone is not None
    assert many is not None
    assert alone.margin > many.margin
    assert deviations_of_one(2) == pytest.approx(2 * 1.5**0.5)
