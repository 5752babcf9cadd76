"""Intervals cover the truth at every look, and get short."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import beta

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
        history.push(durations(rng, 200, 0).finished)
    for _ in range(100):
        control = durations(rng, 200, 0)
        at, known = history.push(control.finished).quantile_bins(np.array([0.5, 0.95]))
        interval.absorb(at, known.astype(int), durations(rng, 50, 14), control)
    bounds = interval.bounds(0.5)
    assert bounds is not None
    assert 0 < bounds[0] < 1.0192**14 - 1 < bounds[1] < 0.6


def test_one_request_in_a_block_counts_as_much_as_among_many() -> None:
    rng = np.random.default_rng(1)
    lone, nothing = QuantileInterval((0.5,), 0.05), QuantileInterval((0.5,), 0.05)
    at, known = np.array([[200]]), np.array([[1]])
    for _ in range(100):
        slow, control = durations(rng, 1, 60), durations(rng, 50, 0)
        lone.absorb(at, known, slow, control)
        nothing.absorb(at, 0 * known, slow, control)
    bounds = lone.bounds(0.5)
    assert bounds is not None
    assert bounds[0] > 0
    assert nothing.bounds(0.5) is None


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


def test_rates_of_one_half_differ_by_about_nothing() -> None:
    interval = RateInterval(0.05)
    interval.absorb(Table(2000, 1000, 2000, 1000))
    bounds = interval.bounds()
    assert bounds is not None
    assert -0.12 < bounds[0] < 0 < bounds[1] < 0.12


def test_with_next_to_no_evidence_the_candidate_may_be_as_good_as_it_gets() -> None:
    interval = RateInterval(0.05)
    interval.absorb(Table(2, 0, 10, 0))
    bounds = interval.bounds()
    assert bounds is not None
    assert bounds[0] == pytest.approx(-0.5 / 11)


def test_the_candidate_s_own_rate_is_bounded_where_jeffreys_mixture_refutes_it() -> None:
    count, bad = 100, 10
    interval = RateInterval(0.05)
    interval.absorb(Table(count, bad, 1, 0))  # next to nothing to compare with

    def evidence(rate: float) -> float:
        def relative(other: float) -> float:
            odds = bad * np.log(other / rate) + (count - bad) * np.log((1 - other) / (1 - rate))
            return float(np.exp(odds) * beta.pdf(other, 0.5, 0.5))

        return quad(relative, 1e-9, 1 - 1e-9, points=[0.1], limit=200)[0]

    exact = brentq(lambda rate: evidence(rate) - 1 / 0.05, 0.1, 0.9)
    bounds = interval.bounds()
    assert bounds is not None
    assert exact <= bounds[1] <= 1.08 * exact  # outwards, by a step of the grid or two


@pytest.mark.parametrize(("shift", "low", "high"), [(-36, -1.0, 0.0), (60, 0.0, np.inf)])
def test_beyond_its_grid_a_quantile_is_bounded_by_nothing(
    shift: int, low: float, high: float
) -> None:
    rng = np.random.default_rng(3)
    interval = QuantileInterval((0.5,), 0.05)
    for _ in range(60):
        arms = durations(rng, 50, shift), durations(rng, 200, 0)
        interval.absorb(np.array([[200]]), np.ones((1, 1), int), *arms)
    bounds = interval.bounds(0.5)
    assert bounds is not None
    assert low <= bounds[0] < bounds[1] <= high
    assert bounds[0] == -1.0 or bounds[1] == np.inf
