"""What is carried from block to block: bets, sums; one block at a time or many at once."""

from __future__ import annotations

from math import exp, inf, log

import numpy as np
import pytest

from agent.judge.eprocess import log_below_rate
from agent.judge.running import (
    CASH,
    LOG_CEILING,
    OVER_TIME,
    FixedShare,
    FixedShareOverTime,
    Least,
    Sums,
    carried,
)


def test_one_error_ends_the_bet_on_none_and_not_the_process() -> None:
    process = FixedShare((), 3)
    rates = 0.01 * np.array([0.0, 0.25, 0.5])
    ratios = log_below_rate(100, 1, rates, np.array([0.01]))
    assert ratios[0] == -inf
    process.absorb(ratios)
    for _ in range(30):
        process.absorb(log_below_rate(100, 0, rates, np.array([0.01])))
    assert process.log_value > log(20)


def test_the_mixture_is_a_martingale_and_stays_under_its_ceiling() -> None:
    process = FixedShare((), 2)
    process.absorb(np.log(np.array([4.0, 0.5])))
    assert exp(process.log_value) == pytest.approx((1 - CASH) * 2.25 + CASH)
    for _ in range(2000):
        process.absorb(np.array([3.0, -3.0]))
    assert process.log_value == LOG_CEILING
    process.absorb(np.array([-3.0, -3.0]))
    assert LOG_CEILING - 3 < process.log_value < LOG_CEILING - 2


def test_hours_of_lost_bets_leave_enough_to_bet_with() -> None:
    process = FixedShare((), 2)
    for _ in range(5000):
        process.absorb(np.array([-5.0, -9.0]))
    assert process.log_value > -15
    for _ in range(6):
        process.absorb(np.array([5.0, 9.0]))
    assert process.log_value > log(20)


def test_a_late_change_is_found_though_the_early_bets_have_lost() -> None:
    process = FixedShare((), 2)
    for _ in range(700):
        process.absorb(np.array([-0.5, -0.01]))
    before = process.log_value
    for _ in range(40):
        process.absorb(np.array([0.5, 0.01]))
    assert process.log_value > before + 8


def test_resting_is_absorbing_ratios_of_one() -> None:
    """A second without any error costs nothing; the bets are mixed as often all the same."""
    gains = np.log(np.array([[2.0, 0.5], [1.5, 3.0], [0.2, 0.9]]))
    whole, resting = FixedShare((1,), 2), FixedShare((1,), 2, rests=True)
    for gain in gains:
        for process in (whole, resting):
            process.absorb(gain[None])
        for _ in range(100):
            whole.absorb(np.zeros((1, 2)))
            resting.absorb(np.zeros((1, 2)), active=np.array([False]))
        np.testing.assert_allclose(resting.log_value, whole.log_value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("window", [None, 3])
def test_sums_of_many_blocks_at_once_are_those_one_by_one(window: int | None) -> None:
    rng = np.random.default_rng(1)
    blocks = rng.integers(0, 9, (11, 2))
    alone, together = Sums(1, 2, window=window), Sums(OVER_TIME, 2, window=window)
    one_by_one = [alone.push(block[None]) for block in blocks]
    pieces = [together.push(piece) for piece in np.split(blocks, [1, 1, 6])]
    for side in (0, 1):
        expected = np.concatenate([one[side] for one in one_by_one])
        assert np.concatenate([piece[side] for piece in pieces]).tolist() == expected.tolist()
    recent = blocks[-3:] if window else blocks
    assert one_by_one[-1][1][0].tolist() == recent.sum(axis=0).tolist()


def test_the_least_of_many_blocks_at_once_is_that_one_by_one() -> None:
    values = np.array([np.inf, 5.0, 7.0, 2.0, 3.0])
    alone, together = Least(1), Least(OVER_TIME)
    expected = [float(alone.push(value[None])[0]) for value in values]
    assert expected == [np.inf, 5.0, 5.0, 2.0, 2.0]
    assert [*together.push(values[:2]), *together.push(values[2:])] == expected


@pytest.mark.parametrize("rests", [False, True])
def test_bets_on_many_blocks_at_once_are_those_one_by_one(rests: bool) -> None:
    rng = np.random.default_rng(2)
    ratios = rng.normal(0.5, 2.0, (40, 3, 2))
    ceilings = np.where(np.arange(40) < 20, 3.0, 60.0)[:, None] * np.ones(3)
    active = rng.random(40) < 0.6
    alone, together = FixedShare((1, 3), 2, rests=rests), FixedShareOverTime((3,), 2, rests=rests)
    expected = []
    for ratio, ceiling, one in zip(ratios, ceilings, active, strict=True):
        alone.absorb(ratio[None], ceiling[None], np.array([one]))
        expected.append(alone.log_value[0])
    found = []
    for piece in np.split(np.arange(40), [1, 2, 17]):
        together.absorb(ratios[piece], ceilings[piece], active[piece])
        found.append(together.log_value[: len(piece)])
    assert np.concatenate(found) == pytest.approx(np.stack(expected), abs=1e-12)
    assert max(value.max() for value in expected[:20]) == 3.0


def test_what_is_carried_is_the_state_before_and_after_each_block() -> None:
    assert carried(np.array([1, 2, 3]), np.array([4, 5])).tolist() == [3, 4, 5]
