"""Exceedances against the control's own past: margins in bins, hanging requests, quantiles."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from agent.judge.history import MIN_REFERENCE, REFERENCE_BLOCKS, History
from agent.judge.panel import QuantileTest, margin_bins
from agent.judge.proof import FINAL
from agent.judge.quantiles import Bins, TailTest
from agent.policy import Direction, QuantileCheck
from mlops.contracts.evidence import BIN_RATIO

GOAL = log(20)
BINS = 420
SIGMA = 0.6 / log(BIN_RATIO)


def arm(rng: np.random.Generator, count: int, slowdown: float = 1.0, runs: int = 1) -> Bins:
    at = 200 + SIGMA * rng.standard_normal((runs, count)) + log(slowdown) / log(BIN_RATIO)
    index = np.arange(runs)[:, None] * BINS + np.clip(at, 0, BINS - 1).astype(int)
    return Bins(np.bincount(index.ravel(), minlength=runs * BINS).reshape(runs, BINS))


def at_bin(index: int, count: int) -> np.ndarray:
    bins = np.zeros((1, BINS), np.int64)
    bins[0, index] = count
    return bins


def nobody(runs: int = 1) -> Bins:
    return Bins(np.zeros((runs, BINS), np.int64))


def tail(check: QuantileCheck, runs: int = 1) -> QuantileTest:
    return QuantileTest(check, (runs, BINS), cancelled=True)


def run(
    slowdown: float, check: QuantileCheck, *, runs: int = 1, blocks: int = 60, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """By run: ever found worse, ever proved, while the day gets slower for both."""
    rng = np.random.default_rng(seed)
    test = tail(check, runs)
    for _ in range(10):
        test.absorb(nobody(runs), arm(rng, 120, runs=runs), np.zeros(runs, bool))
    worse, proved = np.zeros(runs, bool), np.zeros(runs, bool)
    for index in range(blocks):
        day = 1 + index / blocks
        test.absorb(
            arm(rng, 40, slowdown * day, runs), arm(rng, 120, day, runs), np.ones(runs, bool)
        )
        worse |= test.log_value >= GOAL
        proved |= test.log_mirror(FINAL) >= GOAL
    return worse, proved


@pytest.mark.parametrize(
    ("margin", "bins"), [(0.0, 0), (0.1, 5), (0.2, 10), (0.21, 10), (0.5, 21), (1.0, 36)]
)
def test_margins_are_whole_bins(margin: float, bins: int) -> None:
    assert margin_bins(margin) == bins


def test_above_counts_what_was_given_up_only_beyond_the_threshold() -> None:
    finished = at_bin(10, 5) + at_bin(20, 3) + at_bin(21, 2)
    one = Bins(finished, at_bin(20, 4) + at_bin(30, 6))
    counted, slow = one.above(np.array([[20, 30]]))
    assert counted.tolist() == [[16, 10]]
    assert slow.tolist() == [[8, 0]]


def test_seen_from_the_other_end_below_is_above() -> None:
    one = Bins(at_bin(10, 5) + at_bin(20, 3), at_bin(7, 4))
    last = one.finished.shape[1] - 1
    counted, low = one.reversed().above(np.array([[last - 5, last - 15]]))
    assert counted.tolist() == [[8, 12]]  # what was given up counts where it lies beyond
    assert low.tolist() == [[0, 9]]


def test_equal_arms_whose_latency_doubles_over_the_run_are_no_evidence() -> None:
    check = QuantileCheck(quantiles=(0.5, 0.95, 0.99), margin=0.001)
    assert run(1.0, check, runs=400)[0].mean() <= 0.05


def test_a_faster_candidate_is_even_less_evidence() -> None:
    check = QuantileCheck(quantiles=(0.5, 0.95, 0.99), margin=0.001)
    assert run(0.8, check, runs=100)[0].mean() == 0


def test_a_candidate_at_the_margin_is_rarely_proved_and_rarely_worse() -> None:
    worse, proved = run(1.1, QuantileCheck(quantiles=(0.5,), margin=0.1), runs=400)
    assert proved.mean() <= 0.05
    assert worse.mean() <= 0.05


def test_a_slow_candidate_is_found_and_an_equal_one_proved() -> None:
    check = QuantileCheck(quantiles=(0.5, 0.9), margin=0.1)
    assert run(1.4, check)[0].all()
    assert run(1.0, check, blocks=200)[1].all()


def test_every_quantile_must_be_proved() -> None:
    """The middle is proved at once; the far tail has no threshold yet, so nothing is."""
    check = QuantileCheck(quantiles=(0.5, 0.9999), margin=0.2)
    assert not run(1.0, check)[1].any()


def test_the_threshold_comes_from_earlier_blocks_only() -> None:
    rng = np.random.default_rng(5)
    test = tail(QuantileCheck(quantiles=(0.5,)))
    test.absorb(arm(rng, 400, 9.0), arm(rng, 400), np.array([True]))
    assert test.log_value[0] == pytest.approx(0.0)
    test.absorb(arm(rng, 400, 9.0), arm(rng, 400), np.array([True]))
    assert test.log_value[0] > GOAL


def test_a_history_forgets_and_waits_for_enough() -> None:
    history = History(1, BINS)
    levels = np.array([0.5, 0.95, 0.9999])
    history.push(at_bin(10, MIN_REFERENCE - 1))
    assert history.push(at_bin(7, 10)).quantile_bins(levels)[1].tolist() == [[False] * 3]
    for _ in range(REFERENCE_BLOCKS):
        history.push(at_bin(7, 10) + at_bin(9, 10))
    past = history.push(nobody().finished)
    assert past.bins.sum() == 20 * REFERENCE_BLOCKS
    at, known = past.quantile_bins(levels)
    assert at[0, :2].tolist() == [7, 9]
    assert known.tolist() == [[True, True, False]]


def test_hanging_requests_are_exceedances() -> None:
    rng = np.random.default_rng(6)
    test = tail(QuantileCheck(quantiles=(0.5,)))
    for _ in range(6):
        test.absorb(Bins(nobody().finished, at_bin(400, 40)), arm(rng, 120), np.array([True]))
    assert test.log_value[0] > GOAL


@pytest.mark.parametrize(
    ("direction", "change", "found"),
    [
        (Direction.DOWN, 0.5, True),
        (Direction.DOWN, 2.0, False),
        (Direction.BOTH, 0.5, True),
        (Direction.BOTH, 2.0, True),
        (Direction.UP, 0.5, False),
    ],
)
def test_a_change_counts_in_the_direction_asked_for(
    direction: Direction, change: float, found: bool
) -> None:
    check = QuantileCheck(quantiles=(0.5,), margin=0.2, direction=direction)
    assert run(change, check)[0].all() == found


def test_idle_seconds_say_nothing() -> None:
    test = tail(QuantileCheck())
    test.absorb(nobody(), nobody(), np.array([True]))
    assert test.log_value[0] == pytest.approx(0.0)


def test_only_the_tail_is_slow() -> None:
    """Two in a hundred take five times as long: no quantile but the last one moves much."""
    rng = np.random.default_rng(7)
    test = TailTest((0.5, 0.95, 0.99), (20, 10, 5), (1, BINS))
    for _ in range(60):
        test.absorb(nobody(), arm(rng, 225), np.array([False]))
    for _ in range(400):
        slow = int(rng.binomial(25, 0.02))
        mine = arm(rng, 25 - slow).finished + arm(rng, slow, 5.0).finished
        test.absorb(Bins(mine), arm(rng, 225), np.array([True]))
    assert test.log_value[0] > GOAL
    assert test.quantiles[test.worst()[0]] == 0.99
