"""Is the split the one that was asked for?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from agent.judge.running import OVER_TIME
from agent.judge.trust import Completeness, SampleRatioTest

TOLERANCE = 1.1


def ratio(*blocks: tuple[int, int], share_bp: int, compare: bool = True) -> SampleRatioTest:
    """After blocks of so many requests in the candidate and in the control."""
    test = SampleRatioTest(TOLERANCE)
    for candidate, control in blocks:
        ended = np.array([candidate]), np.array([control])
        test.absorb(ended, np.array([share_bp]), np.array([compare]))
    return test


@pytest.mark.parametrize("blocks", [[(50, 950)] * 3, [(100, 900)] * 5, [(180, 820)] * 3])
def test_neither_arm_is_special(blocks: list[tuple[int, int]]) -> None:
    mirrored = ratio(*((control, candidate) for candidate, control in blocks), share_bp=9000)
    assert ratio(*blocks, share_bp=1000).log_value == pytest.approx(mirrored.log_value)


@pytest.mark.parametrize(("candidate", "is_wrong"), [(60, True), (100, False), (160, True)])
def test_a_split_is_wrong_on_either_side_of_what_was_asked(candidate: int, is_wrong: bool) -> None:
    test = ratio(*[(candidate, 1000 - candidate)] * 30, share_bp=1000)
    assert test.log_value.shape == (1,)
    assert bool(test.is_violated[0]) is is_wrong
    expected = (
        f"split not as asked: the candidate got {30 * candidate} of the last 30000 requests "
        f"({candidate / 1000:.2%}), expected about 3000 (10.00%)"
    )
    assert test.complaint(-1) == (expected if is_wrong else None)


@pytest.mark.parametrize(
    ("blocks", "share_bp", "compare"),
    [
        ([(500, 500)] * 9, 1000, False),
        ([(0, 0)] * 9, 1000, True),
        ([(500, 500)] * 9, 0, True),
        ([(500, 500)] * 9, 10_000, True),
    ],
    ids=["not to be compared", "nothing ended", "nothing asked", "everything asked"],
)
def test_a_block_that_says_nothing_of_the_split_teaches_nothing(
    blocks: list[tuple[int, int]], share_bp: int, compare: bool
) -> None:
    test = ratio(*blocks, share_bp=share_bp, compare=compare)
    assert test.log_value == pytest.approx(0.0)
    assert test.complaint(-1) is None


@pytest.mark.parametrize("odds", [1 / TOLERANCE, 1.0, TOLERANCE])
@pytest.mark.parametrize("share_bp", [500, 5000, 9000])
def test_within_the_tolerance_the_mean_of_the_evidence_is_at_most_one(
    odds: float, share_bp: int
) -> None:
    """Over all ways in which twelve requests can be split."""
    asked = share_bp / 10_000
    truth = odds * asked / (1 - asked + odds * asked)
    total = 12
    values = [
        float(np.exp(ratio((count, total - count), share_bp=share_bp).log_value[0]))
        for count in range(total + 1)
    ]
    mean = float(np.dot(binom.pmf(np.arange(total + 1), total, truth), values))
    assert 0.5 < mean <= 1 + 1e-12


def test_blocks_at_once_are_those_one_by_one() -> None:
    rng = np.random.default_rng(1)
    together, alone = SampleRatioTest(TOLERANCE, OVER_TIME), SampleRatioTest(TOLERANCE)
    ended = rng.integers(0, 40, (2, 60))
    share_bp, settled = rng.choice([0, 500, 5000], 60), rng.random(60) < 0.8
    groups = rng.integers(0, 5, (2, 60, 16))
    together.learn(*groups)
    together.absorb((ended[0], ended[1]), share_bp, settled)
    for block in range(60):
        one = slice(block, block + 1)
        alone.learn(*groups[:, one])
        alone.absorb((ended[0, one], ended[1, one]), share_bp[one], settled[one])
        assert together.log_value[block] == pytest.approx(alone.log_value[0], abs=1e-12)
        assert together.complaint(block) == alone.complaint(-1)
    assert together.complaint(-1) is not None


def test_completeness_is_told_of_every_block() -> None:
    completeness = Completeness()
    whole = np.array([100, 100, 100])
    holes = {"rows": np.array([100, 90, 100]), "answered": whole, "dropped": np.array([0, 10, 0])}
    full = {"rows": whole, "answered": whole, "dropped": 0 * whole}
    completeness.absorb(full, holes)
    assert completeness.is_violated.tolist() == [False, True, True]
    assert completeness.complaint(0) is None
    told = completeness.complaint(1)
    assert told is not None
    assert "190 rows for 200 answered requests of the control (95.00%, 99.9% expected)" in told
    assert "10 of them dropped" in told
