"""Intervals cover the truth at every look, and get short."""

from __future__ import annotations

import numpy as np
import pytest

from agent.judge.eprocess import Table
from agent.judge.history import History
from agent.judge.intervals import MeanInterval, QuantileInterval, RateInterval
from agent.judge.quantiles import Bins

BINS = 420


def test_the_rise_of_a_rate_is_covered_at_every_look() -> None:
    missed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        interval = RateInterval(0.05)
        ever = False
        for _ in range(80):
            bad = rng.binomial(50, 0.08), rng.binomial(200, 0.03)
            interval.absorb(Table(50, bad[0], 200, bad[1]))
            bounds = interval.bounds()
            assert bounds is not None
            # The control's rate is estimated: its own error is not part of the promise.
            ever |= not bounds[0] - 0.01 <= 0.05 <= bounds[1] + 0.01
        missed += ever
        assert bounds[1] - bounds[0] < 0.08
    assert missed <= 4


def test_where_nothing_fails_the_rate_is_still_bounded() -> None:
    interval = RateInterval(0.05)
    assert interval.bounds() is None
    for _ in range(100):
        interval.absorb(Table(50, 0, 50, 0))
    bounds = interval.bounds()
    assert bounds is not None
    assert bounds[1] < 0.005


def durations(rng: np.random.Generator, count: int, shift: float) -> Bins:
    at = np.clip(200 + 30 * rng.standard_normal(count) + shift, 0, BINS - 1).astype(int)
    return Bins(np.bincount(at, minlength=BINS)[None, :])


def test_a_slowdown_is_covered_and_excludes_none() -> None:
    rng = np.random.default_rng(1)
    history = History(1, BINS)
    interval = QuantileInterval((0.5, 0.95), 0.05)
    for _ in range(10):
        history.add(durations(rng, 200, 0).finished)
    for _ in range(100):
        at, known = history.quantile_bins(np.array([0.5, 0.95]))
        control = durations(rng, 200, 0)
        interval.absorb(at, known.astype(int), durations(rng, 50, 14), control)
        history.add(control.finished)
    bounds = interval.bounds(0.5)
    assert bounds is not None
    assert 0 < bounds[0] < 1.0192**14 - 1 < bounds[1] < 0.6


def test_before_anything_is_excluded_there_is_no_interval() -> None:
    interval = QuantileInterval((0.5,), 0.05)
    rng = np.random.default_rng(1)
    nothing = np.zeros((1, 1), int)
    interval.absorb(np.array([[200]]), nothing, durations(rng, 9, 0), durations(rng, 9, 0))
    assert interval.bounds(0.5) is None
    assert MeanInterval(0.05).bounds() is None


@pytest.mark.parametrize("fall", [0.0, 0.1])
def test_the_difference_of_means_is_covered(fall: float) -> None:
    rng = np.random.default_rng(2)
    interval = MeanInterval(0.05)

    def sums(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return tuple(
            np.array([float(one)]) for one in (len(values), values.sum(), (values**2).sum())
        )  # type: ignore[return-value]

    for _ in range(120):
        interval.absorb(sums(rng.beta(8, 2, 25) - fall), sums(rng.beta(8, 2, 225)))
        bounds = interval.bounds()
        assert bounds is None or bounds[0] <= -fall <= bounds[1]
    assert bounds is not None
    assert bounds[1] - bounds[0] < 0.06
