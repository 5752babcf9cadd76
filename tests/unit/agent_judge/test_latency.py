"""Exceedances against the control's own past: margins in bins, hanging requests, quantiles."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from agent.judge.latency import (
    MIN_REFERENCE,
    REFERENCE_BLOCKS,
    ArmLatency,
    History,
    LatencyTest,
    margin_bins,
)
from agent.judge.proof import FINAL
from agent.policy import LatencyCheck
from mlops.contracts.evidence import latency_bin

GOAL = log(20)


def arm(rng: np.random.Generator, count: int, slowdown: float = 1.0) -> ArmLatency:
    bins: dict[int, int] = {}
    for took in 80_000 * slowdown * np.exp(0.6 * rng.standard_normal(count)):
        index = latency_bin(float(took))
        bins[index] = bins.get(index, 0) + 1
    return ArmLatency(bins, {})


def run(seed: int, slowdown: float, check: LatencyCheck, *, blocks: int = 60) -> LatencyTest:
    rng = np.random.default_rng(seed)
    test = LatencyTest(check)
    for _ in range(10):
        test.learn(arm(rng, 120))
    for index in range(blocks):
        day = 1 + index / blocks
        test.absorb(arm(rng, 40, slowdown * day), arm(rng, 120, day))
        if max(test.log_value, log(test.result(FINAL, GOAL).noninferiority_e_value)) >= GOAL:
            break
    return test


@pytest.mark.parametrize(
    ("margin", "bins"), [(0.0, 0), (0.1, 5), (0.2, 10), (0.21, 10), (0.5, 21), (1.0, 36)]
)
def test_margins_are_whole_bins(margin: float, bins: int) -> None:
    assert margin_bins(margin) == bins


def test_above_counts_what_was_given_up_only_beyond_the_threshold() -> None:
    one = ArmLatency({10: 5, 20: 3, 21: 2}, {20: 4, 30: 6})
    assert one.above(20) == (16, 8)
    assert one.above(30) == (10, 0)


def test_equal_arms_whose_latency_doubles_over_the_run_are_no_evidence() -> None:
    check = LatencyCheck(quantiles=(0.5, 0.95), margin=0.0)
    assert sum(run(seed, 1.0, check).log_value >= GOAL for seed in range(40)) <= 5


def test_a_candidate_at_the_margin_is_rarely_proved() -> None:
    check = LatencyCheck(quantiles=(0.5,), margin=0.1)
    proved = [
        run(seed, 1.1, check).result(FINAL, GOAL).noninferiority_e_value >= 20 for seed in range(40)
    ]
    assert sum(proved) <= 5


def test_a_slow_candidate_is_found_and_an_equal_one_proved() -> None:
    check = LatencyCheck(quantiles=(0.5, 0.9), margin=0.1)
    assert run(1, 1.4, check).log_value >= GOAL
    equal = run(2, 1.0, check, blocks=200).result(FINAL, GOAL)
    assert equal.noninferiority_e_value >= 20
    assert equal.still_needed == 0


def test_every_quantile_must_be_proved() -> None:
    """The middle is proved at once; the far tail has no threshold yet, so nothing is."""
    rng = np.random.default_rng(4)
    test = LatencyTest(LatencyCheck(quantiles=(0.5, 0.9999), margin=0.2))
    for _ in range(60):
        test.absorb(arm(rng, 40), arm(rng, 120))
    assert test.result(FINAL, GOAL).noninferiority_e_value == pytest.approx(1.0)


def test_the_threshold_comes_from_earlier_blocks_only() -> None:
    rng = np.random.default_rng(5)
    test = LatencyTest(LatencyCheck(quantiles=(0.5,)))
    test.absorb(arm(rng, 400, 9.0), arm(rng, 400))
    assert test.log_value == pytest.approx(0.0)
    test.absorb(arm(rng, 400, 9.0), arm(rng, 400))
    assert test.log_value > GOAL


def test_a_history_forgets_and_waits_for_enough() -> None:
    history = History()
    history.add({10: MIN_REFERENCE - 1})
    assert history.quantile_bin(0.5) is None
    for _ in range(REFERENCE_BLOCKS):
        history.add({7: 10, 9: 10})
    assert history.count == 20 * REFERENCE_BLOCKS
    assert history.quantile_bin(0.5) == 7
    assert history.quantile_bin(0.95) == 9
    assert history.quantile_bin(0.9999) is None


def test_hanging_requests_are_exceedances() -> None:
    rng = np.random.default_rng(6)
    test = LatencyTest(LatencyCheck(quantiles=(0.5,)))
    for _ in range(6):
        test.absorb(ArmLatency({}, {700: 40}), arm(rng, 120))
    assert test.log_value > GOAL


def test_idle_seconds_say_nothing() -> None:
    test = LatencyTest(LatencyCheck())
    test.absorb(ArmLatency({}, {}), ArmLatency({}, {}))
    result = test.result(FINAL, GOAL)
    assert result.e_value == pytest.approx(1.0)
    assert result.candidate_value is None
    assert result.effect is None
