"""Every e-value has a mean of at most 1 under its null, by enumeration; odd input breaks none."""

from __future__ import annotations

from math import inf, log
from timeit import repeat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, nchypergeom_fisher

from agent.judge import eprocess
from agent.judge.eprocess import (
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
    candidate, candidate_bad, control, control_bad = (int(one) for one in table)  # type: ignore[arg-type]
    arguments = (candidate + control, candidate, candidate_bad + control_bad)
    expected = nchypergeom_fisher.logpmf(candidate_bad, *arguments, odds)
    expected -= nchypergeom_fisher.logpmf(candidate_bad, *arguments, 1.0)
    got = log_odds_ratios(table, np.log(np.array([odds])), 0.0)
    assert got[0] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("odds", [0.1, 0.7, 1.0, 1.2, 5.0, 100.0, 2e4])
@pytest.mark.parametrize(
    "table",
    [
        Table(9000, 4000, 11000, 5000),
        Table(600, 300, 90_000, 40_000),
        Table(40_000, 600, 900, 10),
        Table(3562, 3561, 80_000, 76_000),
    ],
    ids=["even", "few candidates", "few bad", "nearly all bad"],
)
def test_every_hth_table_gives_the_sum_of_all(
    table: Table, odds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_odds = np.log(np.array([odds]))
    sampled, _ = eprocess.log_partition(table, log_odds)
    monkeypatch.setattr(eprocess, "FULL_SUPPORT", 10**6)
    whole, _ = eprocess.log_partition(table, log_odds)
    assert sampled == pytest.approx(whole, abs=1e-8)


def test_sums_that_would_overflow_are_taken_in_the_log_domain() -> None:
    """A thousand of a thousand failed: odds of 20,000 to the power of 1,000 are no double."""
    got = log_odds_ratios(Table(1000, 1000, 1000, 0), np.log(np.array([2e4])), log(20.0))
    assert np.isfinite(got).all()
    assert got[0] > 100


def test_a_table_among_many_of_any_width_is_as_if_alone() -> None:
    rng = np.random.default_rng(1)
    candidate = rng.integers(1, 3000, 700)
    control = rng.integers(1, 3000, 700)
    bad = rng.binomial(candidate, 0.3), rng.binomial(control, 0.02)
    bets = np.log(np.array([0.5, 2.0, 30.0]))
    together = log_odds_ratios(Table(candidate, bad[0], control, bad[1]), bets, 0.1)
    for index in range(0, 700, 97):
        columns = (column[index] for column in (candidate, bad[0], control, bad[1]))
        alone = log_odds_ratios(Table(*(int(one) for one in columns)), bets, 0.1)
        assert together[index] == pytest.approx(alone, abs=1e-8)


@given(
    candidate=st.lists(
        st.tuples(st.integers(1, 12), st.integers(1, 12), st.floats(0.01, 0.99)),
        min_size=1,
        max_size=3,
    ),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None)
def test_no_order_of_blocks_and_no_weight_chosen_from_the_past_breaks_validity(
    candidate: list[tuple[int, int, float]], seed: int
) -> None:
    """E[E] by enumeration of whole runs in which the next block depends on what was seen."""
    null = log(1.2)
    bets = null + BETS_ABOVE
    rng = np.random.default_rng(seed)
    swap = rng.integers(0, 2, 64)

    def expected(blocks: list[tuple[int, int, float]], log_e: np.ndarray, path: int) -> np.ndarray:
        if not blocks:
            return np.exp(log_e)
        (mine, others, base), rest = blocks[0], blocks[1:]
        if swap[path % 64]:
            mine, others = others, mine  # the weight is changed because of what was seen
        worse = with_odds_ratio(base, 1.2)
        total = np.zeros(len(bets))
        for a in range(mine + 1):
            for b in range(others + 1):
                chance = binom.pmf(a, mine, worse) * binom.pmf(b, others, base)
                if chance < 1e-9:
                    continue
                ratio = log_odds_ratios(Table(mine, a, others, b), bets, null)
                total += chance * expected(rest, log_e + ratio, 31 * path + 7 * a + b + 1)
        return total

    blocks = [(min(m, 4), min(o, 4), p) for m, o, p in candidate[:2]]
    assert (expected(blocks, np.zeros(len(bets)), 0) <= 1 + 1e-6).all()


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
    values = np.exp(np.array([log_below_rate(60, int(k), rates, np.array([margin])) for k in bad]))
    mean = chances @ values
    assert (mean <= 1 + 1e-9).all()
    if beyond == 1.0:
        assert mean == pytest.approx(1.0)


def test_the_mean_of_logs() -> None:
    def mean(*values: float) -> float:
        return float(np.exp(log_mean(np.array(values))))

    assert mean(log(3), log(1)) == pytest.approx(2.0)
    assert mean(-inf, -inf) == 0
    assert mean(-inf, log(4)) == pytest.approx(2.0)
    weighted = log_mean(np.log(np.array([8.0, 1.0])), np.array([0.25, 0.75]))
    assert float(np.exp(weighted)) == pytest.approx(2.75)
