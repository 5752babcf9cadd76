"""Is the split the one that was asked for?"""

from __future__ import annotations

import numpy as np
import pytest

from agent.judge.trust import SampleRatioTest

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
    assert test.complaint() == (expected if is_wrong else None)


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
    assert test.complaint() is None
