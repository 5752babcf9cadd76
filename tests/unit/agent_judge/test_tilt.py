"""The tilt's mean is at most 1 by enumeration: for equal arms, and for any better candidate."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from agent.judge.history import Past
from agent.judge.tilt import BULK, TAIL, Shape, Tilt

BINS = 8


def past() -> Past:
    return Past(np.array([[300, 300, 200, 100, 60, 20, 12, 8]]))


def value(shape: Shape, candidate: tuple[int, ...], control: tuple[int, ...], margin: int) -> float:
    tilt = Tilt(shape, 1, margin)
    arms = [np.bincount(np.array(one), minlength=BINS)[None, :] for one in (candidate, control)]
    tilt.absorb(past(), *arms)
    return float(np.exp(tilt.log_value[0]))


def mean_under(
    shape: Shape, mine: np.ndarray, others: np.ndarray, sizes: tuple[int, int], margin: int = 0
) -> float:
    """E[e] over all outcomes of a few requests on the bins that have a chance."""
    total = 0.0
    mine_bins, other_bins = np.flatnonzero(mine), np.flatnonzero(others)
    for candidate in product(mine_bins, repeat=sizes[0]):
        for control in product(other_bins, repeat=sizes[1]):
            chance = float(np.prod(mine[list(candidate)]) * np.prod(others[list(control)]))
            total += chance * value(shape, candidate, control, margin)
    return total


LAWS = [
    np.array([0.5, 0, 0, 0.3, 0, 0, 0, 0.2]),
    np.array([0.9, 0, 0, 0, 0, 0, 0, 0.1]),
    np.array([0, 0.4, 0, 0, 0.6, 0, 0, 0]),
]
BETTER = [
    np.array([0.8, 0, 0, 0.15, 0, 0, 0, 0.05]),
    np.array([0.97, 0, 0, 0, 0, 0, 0, 0.03]),
    np.array([0, 0.9, 0, 0, 0.1, 0, 0, 0]),
]


@pytest.mark.parametrize("shape", [BULK, TAIL])
@pytest.mark.parametrize("sizes", [(1, 3), (2, 2), (3, 1), (2, 3)])
@pytest.mark.parametrize("law", range(3))
def test_for_equal_and_for_better_candidates_the_mean_is_at_most_one(
    shape: Shape, sizes: tuple[int, int], law: int
) -> None:
    equal = mean_under(shape, LAWS[law], LAWS[law], sizes)
    better = mean_under(shape, BETTER[law], LAWS[law], sizes)
    assert equal <= 1 + 1e-9
    assert better <= equal + 1e-9


def test_a_candidate_exactly_at_the_margin_is_no_evidence() -> None:
    shifted = np.array([0, 0, 0.5, 0, 0, 0.5, 0, 0])
    control = np.array([0.5, 0, 0, 0.5, 0, 0, 0, 0])
    assert mean_under(BULK, shifted, control, (2, 2), margin=2) <= 1 + 1e-9
    assert mean_under(BULK, shifted, control, (2, 2), margin=0) > 1.05


def test_without_a_past_or_without_an_arm_it_says_nothing() -> None:
    tilt = Tilt(BULK, 1, 0)
    some = np.full((1, BINS), 3)
    tilt.absorb(Past(np.zeros((1, BINS), np.int64)), some, some)
    tilt.absorb(past(), np.zeros((1, BINS), np.int64), some)
    tilt.absorb(past(), some, np.zeros((1, BINS), np.int64))
    assert tilt.log_value[0] == pytest.approx(0.0)


def test_what_lies_within_the_margin_counts_as_the_lowest() -> None:
    assert value(BULK, (0, 1, 5), (3, 4), 2) == pytest.approx(value(BULK, (0, 0, 3), (3, 4), 0))
    assert value(BULK, (1, 1, 3), (3, 4), 0) != pytest.approx(value(BULK, (0, 0, 3), (3, 4), 0))
