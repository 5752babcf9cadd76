"""The e-processes everything is built from. Pure arithmetic in the log domain.

An e-value has a mean of at most 1 under its null hypothesis; a product of them over blocks exceeds
1/alpha with chance alpha at most, at any number of looks (Ville's inequality).

Everything works on arrays whose first axes are independent cases (runs, quantiles, margins), so
that one release and thousands of simulated ones go through the same lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FULL_SUPPORT = 512
"""Up to this many terms the partition function is summed whole."""
STEPS_PER_DEVIATION = 2.5
"""Of a wider one, so many terms per standard deviation."""
WINDOW_DEVIATIONS = 12
WINDOW_TABLES = 16
"""Beyond both together from the mode lies less than double precision can see (Bernstein)."""
_DIRECT_LIMIT = 650.0
"""exp of more than 709 overflows: below this, sums need no logarithm per term."""
_ROWS_AT_ONCE = 256
"""Tables at a time: at most a few megabytes of terms."""


class Table(NamedTuple):
    """Requests and bad ones of both arms in one block, as arrays (or numbers) of one shape."""

    candidate: ArrayLike
    candidate_bad: ArrayLike
    control: ArrayLike
    control_bad: ArrayLike


class _Margins(NamedTuple):
    """A table as flat arrays, with what its margins leave possible."""

    candidate: Floats
    control: Floats
    bad: Floats
    low: Floats
    high: Floats

    def take(self, which: NDArray[np.bool_] | Ints | slice) -> _Margins:
        return _Margins(*(column[which] for column in self))


def log_odds_ratios(table: Table, log_bets: Floats, log_null: float) -> Floats:
    """log e-values of bets on the odds ratio against the null one, given the block's margins.

    Each has mean 1 at the null odds ratio, whatever the base rate of the block is, and at most 1
    beyond it on the side away from the bet (monotone likelihood ratio). So bets above the null test
    "odds ratio <= null" and bets below it test "odds ratio >= null". Bets are the last axis.
    """
    return log_odds_ratios_many(table, ((log_bets, log_null),))[0]


def log_odds_ratios_many(table: Table, tests: Sequence[tuple[Floats, float]]) -> tuple[Floats, ...]:
    """The same for several nulls at the price of one."""
    joined = np.concatenate([np.append(bets, null) for bets, null in tests])
    partition, above_lowest = log_partition(table, joined)
    results = []
    start = 0
    for bets, null in tests:
        end = start + len(bets)
        gain = above_lowest[..., None] * (bets - null)
        results.append(gain - (partition[..., start:end] - partition[..., end : end + 1]))
        start = end + 1
    return tuple(results)


def log_partition(table: Table, log_odds: Floats) -> tuple[Floats, Floats]:
    """Normaliser of Fisher's noncentral hypergeometric law, for each odds ratio.

    log of sum_u w(u) odds^(u - low) over the possible tables, with w(low) = 1, and how far above
    `low` the candidate's bad ones are. Margins that leave one possible table give 0 and 0.
    """
    columns = np.broadcast_arrays(*(np.asarray(one, np.float64) for one in table))
    shape = columns[0].shape
    candidate, candidate_bad, control, control_bad = (np.ravel(one) for one in columns)
    bad = candidate_bad + control_bad
    low, high = np.maximum(0.0, bad - control), np.minimum(bad, candidate)
    margins = _Margins(candidate, control, bad, low, high)
    partition = np.zeros((len(bad), len(log_odds)))
    width = high - low
    summed = (width > 0) & (width < FULL_SUPPORT)
    if summed.any():
        every = margins if summed.all() else margins.take(summed)
        partition[summed] = _summed(every, log_odds)
    if (wide := width >= FULL_SUPPORT).any():
        partition[wide] = _sampled(margins.take(wide), log_odds)
    return partition.reshape((*shape, len(log_odds))), (candidate_bad - low).reshape(shape)


def _summed(margins: _Margins, log_odds: Floats) -> Floats:
    width = margins.high - margins.low
    count = len(width)
    if count <= _ROWS_AT_ONCE:
        return _sum_all(margins, int(width.max()), log_odds)
    # Narrow ones together, so that none is padded to the width of a far wider one.
    order = np.argsort(width)
    result = np.empty((count, len(log_odds)))
    for start in range(0, count, _ROWS_AT_ONCE):
        part = order[start : start + _ROWS_AT_ONCE]
        result[part] = _sum_all(margins.take(part), int(width[part[-1]]), log_odds)
    return result


def _sum_all(margins: _Margins, width: int, log_odds: Floats) -> Floats:
    candidate, control, bad, low, high = (column[:, None] for column in margins)
    at = low + np.arange(width)
    # w(u+1) / w(u); nothing lies beyond `high`.
    growth = (candidate - at) * (bad - at) / ((at + 1) * (control - bad + at + 1))
    with np.errstate(divide="ignore"):
        steps = np.log(np.where(at < high, growth, 0.0))
    log_weights = np.zeros((len(steps), width + 1))
    np.cumsum(steps, axis=1, out=log_weights[:, 1:])
    top = log_weights.max(axis=1, keepdims=True)
    bottom = np.where(np.isfinite(log_weights), log_weights, 0.0).min()
    positions = np.arange(width + 1)
    steepest = width * float(np.abs(log_odds).max())
    if steepest < _DIRECT_LIMIT and float(top.max()) - bottom < _DIRECT_LIMIT:
        weights = np.exp(log_weights - top)
        return np.asarray(np.log(weights @ np.exp(positions[:, None] * log_odds)) + top)
    return np.stack([_log_sum(log_weights + positions * one) for one in log_odds], axis=-1)


def _log_sum(terms: Floats) -> Floats:
    highest = terms.max(axis=-1, keepdims=True)
    return np.asarray(highest[..., 0] + np.log(np.exp(terms - highest).sum(axis=-1)))


def _sampled(margins: _Margins, log_odds: Floats) -> Floats:
    """The same sum from every h-th table near the mode, times h: as dear at any width.

    The law is a sum of independent indicators (its generating polynomial has real roots only), so
    its characteristic function is at most exp(-variance (1 - cos t)). What a sum over every h-th
    point misses of the whole is that function at multiples of 2 pi/h: with h no more than
    1/STEPS_PER_DEVIATION of a standard deviation, exp(-2 pi^2 STEPS_PER_DEVIATION^2) = 1e-53.
    """
    if len(margins.bad) > _ROWS_AT_ONCE:
        starts = range(0, len(margins.bad), _ROWS_AT_ONCE)
        parts = [margins.take(slice(start, start + _ROWS_AT_ONCE)) for start in starts]
        return np.concatenate([_sampled(part, log_odds) for part in parts])
    candidate, control, bad, low, high = (column[:, None] for column in margins)
    odds = np.exp(log_odds)
    a, c = odds - 1, (candidate + 1) * (bad + 1) * odds
    b = candidate + bad - candidate - control - (candidate + bad + 2) * odds
    mode = np.clip(np.floor(-2 * c / (b - np.sqrt(b * b - 4 * a * c))), low, high)
    cells = np.stack([mode, candidate - mode, bad - mode, control - bad + mode])
    deviation = 1 / np.sqrt((1 / (cells + 1)).sum(axis=0))
    step = np.maximum(1.0, np.floor(deviation / STEPS_PER_DEVIATION))
    reach = int(np.ceil((WINDOW_DEVIATIONS * deviation + WINDOW_TABLES) / step).max())
    at = mode[..., None] + step[..., None] * np.arange(-reach, reach + 1)
    lowest = low[..., None]
    inside = (at >= lowest) & (at <= high[..., None])
    at = np.where(inside, at, lowest)
    terms = _log_weight(margins, at) - _log_weight(margins, lowest)
    terms += (at - lowest) * log_odds[:, None]
    return np.asarray(_log_sum(np.where(inside, terms, -np.inf)) + np.log(step))


def _log_weight(margins: _Margins, at: Floats) -> Floats:
    """Of tables with `at` (rows, ...) bad ones of the candidate; up to a constant of the row."""
    candidate, control, bad, _, _ = (column[:, None, None] for column in margins)
    cells = gammaln(at + 1) + gammaln(candidate - at + 1)
    cells += gammaln(bad - at + 1) + gammaln(control - bad + at + 1)
    return np.asarray(-cells)


def log_below_rate(count: ArrayLike, bad: ArrayLike, rates: Floats, null_rate: Floats) -> Floats:
    """log e-values against "the rate is at least `null_rate`" for bets on lower rates.

    Likelihood ratio of Binomial(count, rate) to Binomial(count, null_rate). It falls with `bad`,
    and a higher true rate makes `bad` stochastically larger, so the mean is 1 at `null_rate` and
    less above it. `rates` has the bets as its last axis, `null_rate` has length 1 there.
    """
    bad = np.asarray(bad, np.float64)[..., None]
    good = np.asarray(count, np.float64)[..., None] - bad
    misses = good * (np.log1p(-rates) - np.log1p(-null_rate))
    with np.errstate(divide="ignore", invalid="ignore"):
        hits = np.where(bad > 0, bad * (np.log(rates) - np.log(null_rate)), 0.0)
    return np.asarray(misses + hits)


def log_mean(log_values: Floats, weights: Floats | None = None, axis: int = -1) -> Floats:
    """log of the (weighted) mean of e-values along an axis: an e-value where each is one."""
    highest = np.maximum(log_values.max(axis=axis, keepdims=True), -700.0)
    parts = np.exp(log_values - highest)
    total = parts.mean(axis=axis) if weights is None else (parts * weights).sum(axis=axis)
    with np.errstate(divide="ignore"):
        return np.asarray(np.squeeze(highest, axis) + np.log(total))


def e_value(log_value: float) -> float:
    """Out of the log domain; `FixedShare` has a ceiling, so this cannot overflow."""
    return exp(log_value)


def log_goal(chance: float) -> float:
    """log(1/chance): where an e-process has proved its point."""
    return -log(chance)
