"""Margins from what equal groups of keys differ by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from agent.judge.margins import MIN_REQUESTS, latency_margin, rate_margin, score_margin
from mlops.contracts.evidence import LAST_BIN, latency_bin

BLOCKS, GROUPS = 24, 16


def histograms(rng: Any, requests: int, spread: float, wave: float = 0.0) -> Any:
    """Lognormal durations; groups differ lastingly by `spread`, blocks by `wave`."""
    factor = np.exp(rng.normal(0, spread, GROUPS))
    found = np.zeros((BLOCKS, GROUPS, LAST_BIN + 1), np.int64)
    for block in range(BLOCKS):
        level = 50_000 * np.exp(wave * np.sin(block))
        for group in range(GROUPS):
            for duration_us in rng.lognormal(np.log(level * factor[group]), 0.5, requests):
                found[block, group, latency_bin(duration_us)] += 1
    return found


def test_equal_groups_allow_the_least_margin() -> None:
    suggestion = latency_margin(histograms(np.random.default_rng(1), 400, 0.0))

    assert suggestion is not None
    assert (suggestion.margin, suggestion.groups) == (0.05, GROUPS)


def test_what_all_groups_do_together_is_no_difference_between_them() -> None:
    suggestion = latency_margin(histograms(np.random.default_rng(2), 400, 0.0, wave=1.0))

    assert suggestion is not None
    assert suggestion.margin == 0.05


@pytest.mark.parametrize("spread", [0.05, 0.15])
def test_groups_apart_need_twice_their_spread(spread: float) -> None:
    suggestion = latency_margin(histograms(np.random.default_rng(3), 400, spread))

    assert suggestion is not None
    assert 0.6 * spread < suggestion.spread < 1.6 * spread
    assert 1.9 * suggestion.spread < suggestion.margin < 2.5 * suggestion.spread + 0.05


@pytest.mark.parametrize(("blocks", "requests"), [(1, 1_000), (BLOCKS, MIN_REQUESTS - 1)])
def test_too_little_suggests_nothing(blocks: int, requests: int) -> None:
    bins = np.zeros((blocks, GROUPS, LAST_BIN + 1), np.int64)
    bins[:, :, 100] = requests

    assert latency_margin(bins) is None
    counts = bins.sum(axis=2)
    assert rate_margin(counts * 0, counts) is None


@pytest.mark.parametrize(("groups", "is_enough"), [(1, False), (2, True)])
def test_two_groups_are_the_least_that_can_differ(groups: int, is_enough: bool) -> None:
    bins = np.zeros((BLOCKS, groups, LAST_BIN + 1), np.int64)
    bins[:, :, 100] = MIN_REQUESTS
    counts = bins.sum(axis=2)

    assert (latency_margin(bins) is not None) is is_enough
    assert (rate_margin(counts * 0, counts) is not None) is is_enough


def test_rates_that_differ_by_chance_alone_allow_the_finest_margin() -> None:
    rng = np.random.default_rng(4)
    requests = np.full((BLOCKS, GROUPS), 1_000)

    equal = rate_margin(rng.binomial(requests, 0.02), requests)
    apart = rate_margin(rng.binomial(requests, np.linspace(0.01, 0.03, GROUPS)), requests)

    assert equal is not None
    assert apart is not None
    assert equal.margin <= 0.002
    assert 0.010 <= apart.margin <= 0.016


def test_scores_are_compared_by_their_means() -> None:
    rng = np.random.default_rng(5)
    counts = np.full((BLOCKS, GROUPS), 500)
    totals = 500 * (0.8 + np.linspace(-0.05, 0.05, GROUPS)) + rng.normal(0, 0.1, counts.shape)

    suggestion = score_margin(totals, counts)

    assert suggestion is not None
    assert suggestion.margin == pytest.approx(0.065)
