"""Measures of rankings, and how sure they are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlops.evaluation.metrics import bootstrapped, gain, per_query, registry_metrics

RANKS = np.array([1, 2, 5, 10, 11])


def test_measures_follow_from_ranks() -> None:
    means = {name: float(values.mean()) for name, values in per_query(RANKS).items()}
    assert means["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 5 + 1 / 10 + 1 / 11) / 5)
    assert (means["recall_at_1"], means["recall_at_5"], means["recall_at_10"]) == (0.2, 0.6, 0.8)
    expected = 1 + 1 / math.log2(3) + 1 / math.log2(6) + 1 / math.log2(11)
    assert means["ndcg_at_10"] == pytest.approx(expected / 5)


def test_a_rank_below_one_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="rank 0 is below 1"):
        per_query(np.array([0, 1]))


def test_no_queries_have_no_mean() -> None:
    with pytest.raises(ValueError, match="no queries"):
        bootstrapped(np.zeros(0), seed=1)


def test_the_interval_covers_the_mean_of_the_population() -> None:
    """About 95 of 100 times; by a normal bound, 85 or fewer has a chance of one in a million."""
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        found = bootstrapped(generator.exponential(1.0, 200), seed)
        covered += found.low <= 1.0 <= found.high
    assert covered > 85


def test_the_same_queries_again_are_no_gain_and_say_so_exactly() -> None:
    found = gain(RANKS, RANKS, seed=1)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    assert not found.is_gain


def test_pairing_sees_a_small_gain_that_two_intervals_would_not() -> None:
    generator = np.random.default_rng(0)
    baseline = generator.integers(2, 50, 400)
    candidate = baseline - 1
    both = [bootstrapped(per_query(one)["mrr"], seed=1) for one in (baseline, candidate)]
    assert both[0].high > both[1].low
    assert gain(candidate, baseline, seed=1).is_gain


def test_comparing_different_queries_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="5 and 4 queries"):
        gain(RANKS, RANKS[:4], seed=1)


def test_the_registry_learns_how_sure_the_mean_is() -> None:
    found = registry_metrics(RANKS)
    assert found["queries"] == 5
    assert found["mrr_stderr"] == pytest.approx((1 / RANKS).std(ddof=1) / math.sqrt(5))
