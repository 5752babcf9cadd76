"""The score's e-value holds for any distribution: tiny ones by enumeration, drift by simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from agent.judge.counts import Moments
from agent.judge.proof import FINAL
from agent.judge.running import OVER_TIME
from agent.judge.scores import ScoreTest, log_mean_ratios, moments_of
from agent.policy import ScoreCheck
from mlops.contracts.evidence import SCORE_BINS

GOAL = np.log(20)


def sums(values: np.ndarray) -> Moments:
    """Of one run."""
    return (
        np.array([float(len(values))]),
        np.array([float(values.sum())]),
        np.array([float((values**2).sum())]),
    )


def histogram(values: np.ndarray) -> np.ndarray:
    index = np.minimum(SCORE_BINS - 1, (values * SCORE_BINS).astype(int))
    return np.bincount(index, minlength=SCORE_BINS)[None, :]


@pytest.mark.parametrize("guess", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("points", [(0.0, 1.0), (0.2, 0.9)])
@pytest.mark.parametrize("chances", [(0.5, 0.5), (0.9, 0.8), (0.1, 0.05)])
def test_the_mean_is_at_most_one_at_the_boundary(
    guess: float, points: tuple[float, float], chances: tuple[float, float]
) -> None:
    low, high = points
    shift = np.array([(chances[0] - chances[1]) * (high - low)])
    mean = np.zeros(7)
    for outcome in product((0, 1), repeat=5):
        values = np.where(np.array(outcome) == 1, high, low)
        chance = np.prod(
            [
                p if hit else 1 - p
                for hit, p in zip(outcome, [chances[0]] * 3 + [chances[1]] * 2, strict=True)
            ]
        )
        ratios = log_mean_ratios(sums(values[:3]), sums(values[3:]), shift, np.array([guess]))
        mean += chance * np.exp(ratios[0])
    assert (mean <= 1 + 1e-12).all()
    assert (mean > 0.2).all()


def run(seed: int, fall: float, *, blocks: int, drift: float = 0.0) -> ScoreTest:
    rng = np.random.default_rng(seed)
    test = ScoreTest(ScoreCheck(margin=0.02), 1, SCORE_BINS)
    for index in range(blocks):
        down = drift * index / blocks
        candidate = np.clip(rng.beta(8, 2, 25) - fall - down, 0, 1)
        control = np.clip(rng.beta(8, 2, 225) - down, 0, 1)
        test.absorb(histogram(candidate), histogram(control), np.array([True]))
    return test


def test_a_fall_beyond_the_margin_is_found_and_an_equal_score_is_proved() -> None:
    assert run(1, 0.1, blocks=12).log_value[0] > GOAL
    equal = run(2, 0.0, blocks=120)
    assert equal.log_mirror(FINAL)[0] > GOAL
    assert equal.log_value[0] < np.log(5)


def test_a_few_answers_that_collapse_are_found() -> None:
    rng = np.random.default_rng(3)
    test = ScoreTest(ScoreCheck(margin=0.02), 1, SCORE_BINS)
    for _ in range(40):
        candidate = np.where(rng.random(25) < 0.08, 0.1, rng.beta(8, 2, 25))
        test.absorb(histogram(candidate), histogram(rng.beta(8, 2, 225)), np.array([True]))
    assert test.log_value[0] > GOAL


def test_drift_of_both_arms_is_no_evidence() -> None:
    values = [run(seed, 0.0, blocks=200, drift=0.3).log_value[0] for seed in range(20)]
    assert max(values) < GOAL


@pytest.mark.parametrize(("runs", "cases"), [(OVER_TIME, 1), (3, 3)])
def test_before_any_block_nothing_is_summed(runs: int | None, cases: int) -> None:
    test = ScoreTest(ScoreCheck(), runs, SCORE_BINS)
    assert test.total.tolist() == [[[0, 0, 0], [0, 0, 0]]] * cases


def test_no_scores_say_nothing() -> None:
    test = ScoreTest(ScoreCheck(), 1, SCORE_BINS)
    nothing = np.zeros((1, SCORE_BINS), int)
    test.absorb(nothing, histogram(np.array([0.5])), np.array([True]))
    assert test.log_value[0] == pytest.approx(0.0)
    assert test.total[0, 0, 0] == 0


def test_the_sums_of_a_histogram_are_those_of_its_middles() -> None:
    count, total, squares = moments_of(histogram(np.array([0.0025, 0.9975])))
    assert (count[0], total[0]) == (2, pytest.approx(1.0))
    assert squares[0] == pytest.approx(0.0025**2 + 0.9975**2)
