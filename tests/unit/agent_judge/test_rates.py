"""The test of rates and its mirror at the boundaries of what they promise."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from agent.judge.eprocess import Table
from agent.judge.proof import FINAL
from agent.judge.rates import RECENT_BLOCKS, RateTest, guard, hanging
from agent.policy import RateCheck

GOAL = log(20)
ALWAYS = np.array([True])
PHI = np.ones(1)


def table(candidate: int, candidate_bad: int, control: int, control_bad: int) -> Table:
    columns = (candidate, candidate_bad, control, control_bad)
    return Table(*(np.array([one]) for one in columns))


def fed(test: RateTest, *counts: int, times: int = 1) -> RateTest:
    for _ in range(times):
        test.absorb(table(*counts), ALWAYS, PHI)
    return test


def ever(odds_ratio: float, *, runs: int, base: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """By run: was it ever found worse, was it ever proved harmless, over 60 looks?"""
    rng = np.random.default_rng(1)
    odds = odds_ratio * base / (1 - base)
    test = RateTest(RateCheck(), runs)
    worse, proved = np.zeros(runs, bool), np.zeros(runs, bool)
    for _ in range(60):
        candidate, control = rng.poisson(50, runs), rng.poisson(200, runs)
        bad = rng.binomial(candidate, odds / (1 + odds)), rng.binomial(control, base)
        one = Table(candidate, bad[0], control, bad[1])
        test.absorb(one, np.ones(runs, bool), np.ones(runs))
        worse |= test.log_value >= GOAL
        proved |= test.log_mirror(FINAL) >= GOAL
    return worse, proved


def test_at_the_tolerated_odds_ratio_the_promise_holds_and_is_used() -> None:
    assert ever(1.2, runs=1000)[0].mean() <= 0.05
    assert ever(3.0, runs=100)[0].mean() >= 0.95


def test_twice_the_odds_are_rarely_proved_harmless() -> None:
    assert ever(2.0, runs=1000)[1].mean() <= 0.05
    assert ever(1.0, runs=100)[1].mean() > 0.5


def test_a_lone_error_after_thousands_does_not_forbid_promotion() -> None:
    test = RateTest(RateCheck(), 1)
    for index in range(60):
        fed(test, 100, int(index == 3), 100, 0)
    assert test.log_mirror(FINAL)[0] > GOAL
    assert test.log_value[0] < log(5)


def test_the_rise_is_that_of_the_last_minutes() -> None:
    test = RateTest(RateCheck(margin=0.01), 1)
    assert not test.matters[0]
    fed(test, 100, 3, 100, 1, times=RECENT_BLOCKS)
    assert test.recent_rise[0] == pytest.approx(0.02)
    assert test.matters[0]
    fed(test, 100, 1, 100, 1, times=RECENT_BLOCKS)
    assert test.recent_rise[0] == pytest.approx(0.0)
    assert not test.matters[0]


def test_without_a_control_nothing_is_said() -> None:
    test = fed(RateTest(RateCheck(), 1), 10, 10, 0, 0)
    assert test.log_value[0] == pytest.approx(0.0)
    assert not test.matters[0]


def test_a_rise_needs_a_request_of_each_arm() -> None:
    assert fed(RateTest(RateCheck(), 1), 10, 10, 0, 0).recent_rise[0] == 0
    assert fed(RateTest(RateCheck(), 1), 0, 0, 100, 1).recent_rise[0] == 0
    assert fed(RateTest(RateCheck(), 1), 1, 1, 100, 0).recent_rise[0] == 1


def test_a_run_that_is_not_compared_stays_as_it_is() -> None:
    test = RateTest(RateCheck(), 2)
    columns = (np.array([25, 25]), np.array([9, 9]), np.array([225, 225]), np.array([1, 1]))
    for _ in range(4):
        test.absorb(Table(*columns), np.array([True, False]), np.ones(2))
    assert test.log_value[0] > GOAL
    assert test.log_value[1] == pytest.approx(0.0)
    assert test.total[1].tolist() == [0, 0, 0, 0]


def test_evidence_is_divided_by_the_dispersion() -> None:
    plain, tempered = RateTest(RateCheck(), 1), RateTest(RateCheck(), 1)
    plain.absorb(table(25, 9, 225, 1), ALWAYS, PHI)
    tempered.absorb(table(25, 9, 225, 1), ALWAYS, np.array([5.0]))
    assert 0 < tempered.log_value[0] < plain.log_value[0] / 2


def test_many_runs_are_each_as_if_alone() -> None:
    rng = np.random.default_rng(2)
    blocks = [
        (rng.poisson(25, 3), rng.poisson(2, 3), rng.poisson(225, 3), rng.poisson(3, 3))
        for _ in range(20)
    ]
    together = RateTest(RateCheck(), 3)
    alone = [RateTest(RateCheck(), 1) for _ in range(3)]
    for mine, bad, others, others_bad in blocks:
        block = (mine + 5, np.minimum(bad, 5), others, np.minimum(others_bad, others))
        together.absorb(Table(*block), np.ones(3, bool), np.ones(3))
        for run, one in enumerate(alone):
            fed(one, *(int(column[run]) for column in block))
    expected = [one.log_value[0] for one in alone]
    assert together.log_value == pytest.approx(expected, abs=1e-9)
    mirrored = [one.log_mirror(FINAL)[0] for one in alone]
    assert together.log_mirror(FINAL) == pytest.approx(mirrored, abs=1e-9)


def test_the_guard_forgives_a_cold_start_and_not_a_dead_candidate() -> None:
    rng = np.random.default_rng(1)
    cold, dead = guard(1), guard(1)
    for second in range(60):
        warming = 0.01 + 0.09 * np.exp(-second / 20)
        cold.absorb(table(5, rng.binomial(5, warming), 45, rng.binomial(45, 0.01)))
    for _ in range(5):
        dead.absorb(table(5, 5, 45, 0))
    assert cold.log_value[0] < log(5)
    assert dead.log_value[0] > log(250)


def test_answers_that_never_end_are_evidence_and_slow_ones_of_both_arms_are_not() -> None:
    stuck, slow = hanging(1), hanging(1)
    for _ in range(5):
        stuck.absorb(table(20, 4, 200, 0))
        slow.absorb(table(20, 4, 200, 40))
    assert stuck.log_value[0] > log(1000)
    assert slow.log_value[0] < log(5)
