"""The score's e-value holds for any distribution: tiny ones by enumeration, drift by simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from agent.judge.proof import FINAL
from agent.judge.score import ScoreTest, log_mean_ratios
from agent.policy import ScoreCheck
from agent.windows import ScoreSums


def sums(values: np.ndarray) -> ScoreSums:
    return ScoreSums(
        count=len(values), total=float(values.sum()), total_squares=float((values**2).sum())
    )


@pytest.mark.parametrize("guess", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("points", [(0.0, 1.0), (0.2, 0.9)])
@pytest.mark.parametrize("chances", [(0.5, 0.5), (0.9, 0.8), (0.1, 0.05)])
def test_the_mean_is_at_most_one_at_the_boundary(
    guess: float, points: tuple[float, float], chances: tuple[float, float]
) -> None:
    low, high = points
    shift = (chances[0] - chances[1]) * (high - low)
    mean = np.zeros(7)
    for outcome in product((0, 1), repeat=5):
        values = np.where(np.array(outcome) == 1, high, low)
        chance = np.prod(
            [
                p if hit else 1 - p
                for hit, p in zip(outcome, [chances[0]] * 3 + [chances[1]] * 2, strict=True)
            ]
        )
        mean += chance * np.exp(log_mean_ratios(sums(values[:3]), sums(values[3:]), shift, guess))
    assert (mean <= 1 + 1e-12).all()
    assert (mean > 0.2).all()


def run(seed: int, fall: float, *, blocks: int, drift: float = 0.0) -> ScoreTest:
    rng = np.random.default_rng(seed)
    test = ScoreTest(ScoreCheck(margin=0.02))
    for index in range(blocks):
        down = drift * index / blocks
        candidate = np.clip(rng.beta(8, 2, 25) - fall - down, 0, 1)
        test.absorb(sums(candidate), sums(np.clip(rng.beta(8, 2, 225) - down, 0, 1)))
    return test


def test_a_fall_beyond_the_margin_is_found_and_an_equal_score_is_proved() -> None:
    assert run(1, 0.1, blocks=12).log_value > np.log(20)
    equal = run(2, 0.0, blocks=120).result(FINAL, np.log(20))
    assert equal.noninferiority_e_value > 20
    assert equal.e_value < 5
    assert equal.still_needed == 0


def test_drift_of_both_arms_is_no_evidence() -> None:
    assert max(run(seed, 0.0, blocks=200, drift=0.3).log_value for seed in range(20)) < np.log(20)


def test_no_scores_say_nothing() -> None:
    test = ScoreTest(ScoreCheck())
    test.absorb(ScoreSums(), sums(np.array([0.5])))
    result = test.result(FINAL, np.log(20))
    assert result.e_value == pytest.approx(1.0)
    assert result.candidate_value is None
    assert result.still_needed is None
