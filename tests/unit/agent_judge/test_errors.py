"""The error test and its mirror at the boundaries of what they promise."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from agent.judge.eprocess import Table
from agent.judge.errors import NULL_ODDS_RATIO, RECENT_BLOCKS, ErrorsTest, Guard
from agent.judge.proof import FINAL
from agent.policy import ErrorsCheck

GOAL = log(20)


def ever(seed: int, odds_ratio: float, *, blocks: int = 60, base: float = 0.05) -> ErrorsTest:
    """The test after a run that stops when either side has proved its point."""
    rng = np.random.default_rng(seed)
    odds = odds_ratio * base / (1 - base)
    rate = odds / (1 + odds)
    test = ErrorsTest(ErrorsCheck())
    for _ in range(blocks):
        candidate, control = int(rng.poisson(50)), int(rng.poisson(200))
        bad = (int(rng.binomial(candidate, rate)), int(rng.binomial(control, base)))
        test.absorb(Table(candidate, bad[0], control, bad[1]))
        if max(test.log_value, log(test.result(FINAL, GOAL).noninferiority_e_value)) >= GOAL:
            break
    return test


def test_at_the_null_odds_ratio_the_promise_holds_and_is_used() -> None:
    alarms = sum(ever(seed, NULL_ODDS_RATIO).log_value >= GOAL for seed in range(150))
    assert alarms <= 12
    assert sum(ever(seed, 3.0).log_value >= GOAL for seed in range(20)) >= 19


def test_twice_the_odds_are_rarely_proved_harmless() -> None:
    proofs = [ever(seed, 2.0).result(FINAL, GOAL).noninferiority_e_value for seed in range(100)]
    assert sum(proof >= 20 for proof in proofs) <= 9


def test_a_lone_error_after_thousands_does_not_forbid_promotion() -> None:
    test = ErrorsTest(ErrorsCheck())
    for index in range(60):
        test.absorb(Table(100, int(index == 3), 100, 0))
    result = test.result(FINAL, GOAL)
    assert result.noninferiority_e_value > 20
    assert result.e_value < 5


def test_the_rise_is_that_of_the_last_minutes() -> None:
    test = ErrorsTest(ErrorsCheck(margin=0.01))
    assert not test.matters
    for _ in range(RECENT_BLOCKS):
        test.absorb(Table(100, 3, 100, 1))
    assert test.recent_rise == pytest.approx(0.02)
    assert test.matters
    for _ in range(RECENT_BLOCKS):
        test.absorb(Table(100, 1, 100, 1))
    assert test.recent_rise == pytest.approx(0.0)
    assert not test.matters
    assert test.result(FINAL, GOAL).effect == pytest.approx(0.01)


def test_without_a_control_nothing_is_said() -> None:
    test = ErrorsTest(ErrorsCheck())
    test.absorb(Table(10, 10, 0, 0))
    assert test.recent_rise is None
    assert test.log_value == pytest.approx(0.0)
    assert not test.matters


def test_the_guard_forgives_a_cold_start_and_not_a_dead_candidate() -> None:
    rng = np.random.default_rng(1)
    cold, dead = Guard(), Guard()
    for second in range(60):
        warming = 0.01 + 0.09 * np.exp(-second / 20)
        cold.absorb(Table(5, int(rng.binomial(5, warming)), 45, int(rng.binomial(45, 0.01))))
    for _ in range(5):
        dead.absorb(Table(5, 5, 45, 0))
    assert cold.log_value < log(5)
    assert dead.log_value > log(200)
