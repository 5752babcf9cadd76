"""Every e-value has a mean of at most 1 under its null, by enumeration; odd input breaks none."""

from __future__ import annotations

from math import exp, inf, log
from timeit import repeat

import numpy as np
import pytest
from scipy.stats import binom, nchypergeom_fisher

from agent.judge import eprocess
from agent.judge.eprocess import (
    LOG_CEILING,
    FixedShare,
    Table,
    log_below_rate,
    log_mean,
    log_odds_ratios,
)

MARGINS = [(5, 20), (12, 12), (3, 40), (1, 7)]
BETS_ABOVE = np.log(np.array([1.5, 3.0, 30.0]))
BETS_BELOW = np.log(np.array([0.1, 0.5, 0.7]))


def mean_under(
    candidate: int, control: int, rates: tuple[float, float], bets: np.ndarray, null: float
) -> np.ndarray:
    """E[e] over all tables of two binomials."""
    total = np.zeros(len(bets))
    for a in range(candidate + 1):
        for b in range(control + 1):
            chance = binom.pmf(a, candidate, rates[0]) * binom.pmf(b, control, rates[1])
            total += chance * np.exp(log_odds_ratios(Table(candidate, a, control, b), bets, null))
    return total


def with_odds_ratio(base: float, ratio: float) -> float:
    odds = ratio * base / (1 - base)
    return odds / (1 + odds)


@pytest.mark.parametrize("margins", MARGINS)
@pytest.mark.parametrize("null", [1.0, 1.2, 20.0])
@pytest.mark.parametrize("base", [0.01, 0.1, 0.5])
def test_at_the_null_odds_ratio_the_mean_is_one(
    margins: tuple[int, int], null: float, base: float
) -> None:
    rates = (with_odds_ratio(base, null), base)
    for bets in (log(null) + BETS_ABOVE, log(null) + BETS_BELOW):
        assert mean_under(*margins, rates, bets, log(null)) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("margins", MARGINS)
def test_inside_the_null_the_mean_is_below_one_and_outside_above(margins: tuple[int, int]) -> None:
    null = log(1.2)
    inside = mean_under(*margins, (0.1, 0.1), null + BETS_ABOVE, null)
    outside = mean_under(*margins, (with_odds_ratio(0.1, 3), 0.1), null + BETS_ABOVE[:2], null)
    assert (inside < 1).all()
    assert (outside > 1).all()
    mirrored = mean_under(*margins, (0.3, 0.1), null + BETS_BELOW, null)
    assert (mirrored < 1).all()


@pytest.mark.parametrize("table", [Table(10, 3, 50, 1), Table(7, 0, 9, 8), Table(300, 20, 40, 1)])
@pytest.mark.parametrize("odds", [0.3, 1.2, 5.0])
def test_agrees_with_scipys_noncentral_hypergeometric(table: Table, odds: float) -> None:
    arguments = (table.candidate + table.control, table.candidate, table.bad)
    expected = nchypergeom_fisher.logpmf(table.candidate_bad, *arguments, odds)
    expected -= nchypergeom_fisher.logpmf(table.candidate_bad, *arguments, 1.0)
    got = log_odds_ratios(table, np.log(np.array([odds])), 0.0)
    assert got[0] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("odds", [0.1, 0.7, 1.0, 1.2, 5.0, 100.0])
def test_the_windowed_sum_equals_the_whole_sum(
    odds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(9000, 4000, 11000, 5000)
    log_odds = np.log(np.array([odds]))
    windowed = eprocess.log_partition(table, log_odds)
    monkeypatch.setattr(eprocess, "FULL_SUPPORT", 10**6)
    whole = eprocess.log_partition(table, log_odds)
    assert windowed is not None
    assert whole is not None
    assert windowed[0] == pytest.approx(whole[0], abs=1e-9)


@pytest.mark.parametrize(
    "table",
    [Table(0, 0, 0, 0), Table(0, 0, 9, 3), Table(9, 0, 9, 0), Table(4, 4, 6, 6), Table(5, 2, 0, 0)],
)
def test_a_block_that_allows_one_table_only_says_nothing(table: Table) -> None:
    assert log_odds_ratios(table, BETS_ABOVE, 0.0).tolist() == [0.0, 0.0, 0.0]


def test_fifty_thousand_requests_are_finite_and_cheap() -> None:
    table = Table(25_000, 12_600, 25_000, 12_400)
    bets = np.log(np.array([1.2, 1.5, 2, 3, 5, 10, 30, 100]))
    assert np.isfinite(log_odds_ratios(table, bets, 0.0)).all()
    # Generous: a shared machine; whole sums took several times this.
    assert min(repeat(lambda: log_odds_ratios(table, bets, 0.0), number=1, repeat=5)) < 0.05


@pytest.mark.parametrize("margin", [0.005, 0.02, 0.3])
@pytest.mark.parametrize("beyond", [1.0, 1.5, 3.0])
def test_the_rate_test_has_a_mean_of_at_most_one_from_the_margin_on(
    margin: float, beyond: float
) -> None:
    rates = margin * np.array([0.0, 0.25, 0.5])
    bad = np.arange(61)
    chances = binom.pmf(bad, 60, margin * beyond)
    values = np.exp(np.array([log_below_rate(60, int(k), rates, margin) for k in bad]))
    mean = chances @ values
    assert (mean <= 1 + 1e-9).all()
    if beyond == 1.0:
        assert mean == pytest.approx(1.0)


def test_one_error_ends_the_bet_on_none_and_not_the_process() -> None:
    process = FixedShare(3)
    rates = 0.01 * np.array([0.0, 0.25, 0.5])
    ratios = log_below_rate(100, 1, rates, 0.01)
    assert ratios[0] == -inf
    process.absorb(ratios)
    for _ in range(30):
        process.absorb(log_below_rate(100, 0, rates, 0.01))
    assert process.log_value > log(20)


def test_the_mixture_is_a_martingale_and_stays_under_its_ceiling() -> None:
    process = FixedShare(2)
    process.absorb(np.log(np.array([4.0, 0.5])))
    assert exp(process.log_value) == pytest.approx(2.25)
    for _ in range(2000):
        process.absorb(np.array([3.0, -3.0]))
    assert process.log_value == LOG_CEILING
    process.absorb(np.array([-3.0, -3.0]))
    assert process.log_value == pytest.approx(LOG_CEILING - 3)


def test_a_late_change_is_found_though_the_early_bets_have_lost() -> None:
    process = FixedShare(2)
    for _ in range(700):
        process.absorb(np.array([-0.5, -0.01]))
    before = process.log_value
    for _ in range(40):
        process.absorb(np.array([0.5, 0.01]))
    assert process.log_value > before + 8


def test_the_mean_of_logs() -> None:
    assert exp(log_mean(log(3), log(1))) == pytest.approx(2.0)
    assert log_mean(-inf, -inf) == -inf
    assert exp(log_mean(-inf, log(4))) == pytest.approx(2.0)
