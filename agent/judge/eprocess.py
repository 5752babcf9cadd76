"""The e-processes everything is built from. Pure arithmetic in the log domain.

An e-value has a mean of at most 1 under its null hypothesis; a product of them over blocks exceeds
1/alpha with chance alpha at most, at any number of looks (Ville's inequality).
"""

from __future__ import annotations

from math import exp, inf, log, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]

PLANNED_BLOCKS = 720
"""An hour of 5 s blocks; one expected change of bet in that time."""
LOG_CEILING = 50.0
"""Far beyond any threshold; a higher value adds nothing and would only delay coming back."""
FULL_SUPPORT = 2048
"""Up to this many terms the partition function is summed whole."""
WINDOW_DEVIATIONS = 12
"""Beyond this many standard deviations from the mode lies less than double precision can see."""


_LOG_FACTORIAL: Floats = gammaln(np.arange(1 << 16) + 1.0)
"""Half a megabyte that covers every block up to 65,000 requests per arm."""


class Table(NamedTuple):
    """Requests and bad ones of both arms in one block."""

    candidate: int
    candidate_bad: int
    control: int
    control_bad: int

    @property
    def bad(self) -> int:
        """Bad ones of both."""
        return self.candidate_bad + self.control_bad


def log_partition(table: Table, log_odds: Floats) -> Floats | None:
    """log of sum_u C(candidate, u) C(control, bad-u) odds^u, for each odds ratio.

    The normaliser of Fisher's noncentral hypergeometric law. None where the margins leave a single
    possible table, which therefore says nothing.
    """
    low = max(0, table.bad - table.control)
    high = min(table.bad, table.candidate)
    if high <= low:
        return None
    if high - low < FULL_SUPPORT:
        support = np.arange(low, high + 1, dtype=np.float64)
        terms = _log_weights(table, low, high)[:, None] + support[:, None] * log_odds[None, :]
        return _log_sum(terms)
    return np.array([_windowed(table, low, high, one) for one in log_odds])


def _log_weights(table: Table, low: int, high: int) -> Floats:
    """log of the terms for u in low..high, without the odds."""
    # Constants that cancel in every ratio keep the numbers small.
    constant = gammaln(table.candidate + 1.0) + gammaln(table.control + 1.0)
    rest = table.control - table.bad
    weights = _log_factorials(low, high) + _log_factorials(rest + low, rest + high)
    weights += _log_factorials(table.candidate - high, table.candidate - low)[::-1]
    weights += _log_factorials(table.bad - high, table.bad - low)[::-1]
    return np.asarray(constant - weights)


def _log_factorials(first: int, last: int) -> Floats:
    if last < len(_LOG_FACTORIAL):
        return _LOG_FACTORIAL[first : last + 1]
    return np.asarray(gammaln(np.arange(first, last + 1) + 1.0))


def _log_sum(terms: Floats) -> Floats:
    highest = terms.max(axis=0)
    return np.asarray(highest + np.log(np.exp(terms - highest).sum(axis=0)))


def _windowed(table: Table, low: int, high: int, log_odds: float) -> float:
    """The same sum around its mode: the law is a sum of independent indicators, hence narrow."""
    odds = exp(log_odds)
    total = table.candidate + table.control
    a = odds - 1
    b = table.candidate + table.bad - total - (table.candidate + table.bad + 2) * odds
    c = (table.candidate + 1) * (table.bad + 1) * odds
    mode = -2 * c / (b - sqrt(b * b - 4 * a * c))
    width = WINDOW_DEVIATIONS * sqrt(high - low) / 2 + 64
    low, high = max(low, int(mode - width)), min(high, int(mode + width))
    support = np.arange(low, high + 1, dtype=np.float64)
    return float(_log_sum((_log_weights(table, low, high) + support * log_odds)[:, None])[0])


def log_odds_ratios(table: Table, log_bets: Floats, log_null: float) -> Floats:
    """log e-values of bets on the odds ratio against the null one, given the block's margins.

    Each has mean 1 at the null odds ratio, whatever the base rate of the block is, and at most 1
    beyond it on the side away from the bet (monotone likelihood ratio). So bets above the null test
    "odds ratio <= null" and bets below it test "odds ratio >= null".
    """
    return log_odds_ratios_many(table, ((log_bets, log_null),))[0]


def log_odds_ratios_many(
    table: Table, tests: tuple[tuple[Floats, float], ...]
) -> tuple[Floats, ...]:
    """The same for several nulls at the price of one."""
    joined = np.concatenate([np.append(bets, null) for bets, null in tests])
    partition = log_partition(table, joined)
    results = []
    start = 0
    for bets, null in tests:
        end = start + len(bets)
        if partition is None:
            results.append(np.zeros(len(bets)))
        else:
            ratio = table.candidate_bad * (bets - null)
            results.append(ratio - (partition[start:end] - partition[end]))
        start = end + 1
    return tuple(results)


def log_below_rate(count: int, bad: int, rates: Floats, null_rate: float) -> Floats:
    """log e-values against "the rate is at least `null_rate`" for bets on lower rates.

    Likelihood ratio of Binomial(count, rate) to Binomial(count, null_rate). It falls with `bad`,
    and a higher true rate makes `bad` stochastically larger, so the mean is 1 at `null_rate` and
    less above it.
    """
    misses = (count - bad) * (np.log1p(-rates) - np.log1p(-null_rate))
    if not bad:
        return np.asarray(misses)
    with np.errstate(divide="ignore"):
        return np.asarray(bad * (np.log(rates) - log(null_rate)) + misses)


class FixedShare:
    """Bets mixed with a small fixed switching rate, so that a late change is found as fast.

    A convex mixture chosen before the block is an e-value, hence the product is an e-process
    (Herbster and Warmuth 1998). The value is cut off at a ceiling, which only lowers it.
    """

    def __init__(self, bets: int, *, log_ceiling: float = LOG_CEILING) -> None:
        self._log_prior = -log(bets)
        self._log_wealth: Floats = np.full(bets, self._log_prior)
        self._log_ceiling = log_ceiling
        self.log_value = 0.0

    def absorb(self, log_ratios: Floats) -> None:
        """One more block."""
        wealth = self._log_wealth + log_ratios
        highest = float(wealth.max())
        value = highest + log(float(np.exp(wealth - highest).sum()))
        if value > self._log_ceiling:
            wealth -= value - self._log_ceiling
            value = self._log_ceiling
        self.log_value = value
        switch = 1 / PLANNED_BLOCKS
        shared = log(switch) + value + self._log_prior
        self._log_wealth = np.logaddexp(log(1 - switch) + wealth, shared)


def log_mean(*log_values: float) -> float:
    """log of the mean of e-values given by their logs: an e-value where each is one."""
    highest = max(log_values)
    if highest == -inf:
        return -inf
    return highest + log(sum(exp(value - highest) for value in log_values) / len(log_values))
