"""How large the effect is, with intervals that hold at every look.

An e-process for each possible effect: those that are not refuted at 1/alpha are the interval. It
covers the truth over the whole release with chance 1 - alpha, each check for itself.
"""

from __future__ import annotations

from math import log

import numpy as np
from scipy.special import betaln

from agent.judge.counts import Moments
from agent.judge.eprocess import Floats, Ints, Table, log_odds_ratios, log_partition
from agent.judge.quantiles import Bins
from agent.judge.running import OVER_TIME, Sums, carried
from agent.judge.scores import FIRST_GUESS
from mlops.contracts.evidence import BIN_RATIO

Interval = tuple[float, float]

_LOG_ODDS = np.linspace(-log(300), log(300), 81)
_RATES = np.geomspace(1e-6, 1 - 1e-6, 400)
_SHIFTS = np.array([-36, -24, -16, -11, -8, -5, -3, -1, 0, 1, 3, 5, 7, 9, 12, 16, 24, 36, 60])
"""Bins: from half to about three times the control's quantile."""
_TWO_SIDED = np.log(np.array([0.2, 0.5, 0.75, 1.33, 2, 5]))
_MEAN_BETS = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.7])
_GAPS = np.linspace(-1, 1, 801)


class RateInterval:
    """Candidate's rate minus control's."""

    def __init__(self, alpha: float) -> None:
        self._log_goal = -log(alpha)
        self._likelihoods = Sums(OVER_TIME, len(_LOG_ODDS), dtype=np.float64)
        self._totals = Sums(OVER_TIME, 4)
        self._log_likelihood: Floats = np.zeros((1, len(_LOG_ODDS)))
        self._total: Ints = np.zeros((1, 4), np.int64)
        """After each of the last blocks, and in front before them."""

    def absorb(self, table: Table) -> None:
        """Blocks."""
        columns = np.stack([np.atleast_1d(one) for one in table])
        partition, above_lowest = log_partition(Table(*columns), _LOG_ODDS)
        gained = above_lowest[:, None] * _LOG_ODDS - partition
        self._log_likelihood = carried(self._log_likelihood, self._likelihoods.push(gained)[1])
        self._total = carried(self._total, self._totals.push(columns.T)[1])

    def bounds(self, row: int = -1) -> Interval | None:
        """None without requests."""
        candidate, candidate_bad, control, control_bad = self._total[row].tolist()
        if not candidate or not control:
            return None
        base = (control_bad + 0.5) / (control + 1)
        likelihood = self._log_likelihood[row]
        kept = np.flatnonzero(_log_mean_exp(likelihood) - likelihood < self._log_goal)
        first, last = int(kept[0]) - 1, int(kept[-1]) + 1
        low = -base if first < 0 else _with_odds(base, _LOG_ODDS[first]) - base
        high = 1.0 if last >= len(_LOG_ODDS) else _with_odds(base, _LOG_ODDS[last]) - base
        # Where nothing fails, the odds say nothing, but the candidate's own rate is bounded.
        high = min(high, self._highest_rate(candidate, candidate_bad))
        return float(low), float(max(low, high))

    def _highest_rate(self, count: float, bad: float) -> float:
        mixture = float(betaln(0.5 + bad, 0.5 + count - bad) - betaln(0.5, 0.5))
        evidence = mixture - bad * np.log(_RATES) - (count - bad) * np.log1p(-_RATES)
        kept = np.flatnonzero(evidence < self._log_goal)
        return float(_RATES[min(len(_RATES) - 1, int(kept[-1]) + 1)]) if len(kept) else 1.0


class QuantileInterval:
    """Candidate's quantile over control's, minus 1, for each quantile of a check."""

    def __init__(self, quantiles: tuple[float, ...], alpha: float) -> None:
        self._levels = np.array(quantiles)
        self._log_goal = -log(alpha)
        shape = (len(quantiles), len(_SHIFTS), len(_TWO_SIDED))
        self._sums = Sums(OVER_TIME, *shape, dtype=np.float64)
        self._log_ratios: Floats = np.zeros((1, *shape))
        """After each of the last blocks, and in front before them."""

    def absorb(self, thresholds: Ints, known: Ints, candidate: Bins, control: Bins) -> None:
        """Blocks, with the control's quantile bins of the blocks before each."""
        nearer = np.maximum(0, thresholds[..., None] + _SHIFTS)
        mine = [column * known[..., None] for column in candidate.above(nearer)]
        others = [(column * known)[..., None] for column in control.above(thresholds)]
        gained = log_odds_ratios(Table(*mine, *others), _TWO_SIDED, 0.0)
        self._log_ratios = carried(self._log_ratios, self._sums.push(gained)[1])

    def bounds(self, quantile: float, row: int = -1) -> Interval | None:
        """None where nothing is refuted yet."""
        at = int(np.abs(self._levels - quantile).argmin())
        evidence = _log_mean_exp(self._log_ratios[row, at])
        kept = np.flatnonzero(evidence < self._log_goal)
        if not len(kept) or len(kept) == len(_SHIFTS):
            return None
        first, last = max(0, int(kept[0]) - 1), min(len(_SHIFTS) - 1, int(kept[-1]) + 1)
        low = -1.0 if kept[0] == 0 else BIN_RATIO ** int(_SHIFTS[first]) - 1
        high = np.inf if kept[-1] == len(_SHIFTS) - 1 else BIN_RATIO ** int(_SHIFTS[last]) - 1
        return float(low), float(high)


class MeanInterval:
    """Candidate's mean score minus control's, from sums (empirical Bernstein, both sides)."""

    def __init__(self, alpha: float) -> None:
        self._log_goal = -log(alpha / 2)
        self._seen = Sums(OVER_TIME, 2, dtype=np.float64)
        self._sums = Sums(OVER_TIME, 3, len(_MEAN_BETS), dtype=np.float64)
        self._gained: Floats = np.zeros((1, 3, len(_MEAN_BETS)))
        """After each of the last blocks, and in front before them: gains both ways, and slope."""

    def absorb(self, candidate: Moments, control: Moments) -> None:
        """Blocks."""
        mine, others = np.stack(candidate, axis=-1), np.stack(control, axis=-1)
        count, total = np.moveaxis(self._seen.push((mine + others)[:, :2])[0], -1, 0)
        guess = np.where(count > 0, total / np.maximum(1, count), FIRST_GUESS)
        usable = (mine[:, 0] > 0) & (others[:, 0] > 0)
        more, less = np.maximum(1.0, mine[:, 0]), np.maximum(1.0, others[:, 0])
        slope = _MEAN_BETS * (more * less / (more + less))[:, None]
        gap = (mine[:, 1] / more - others[:, 1] / less)[:, None]
        penalty = np.zeros_like(slope)
        for arm, part in ((mine, less), (others, more)):
            bets = _MEAN_BETS * (part / (more + less))[:, None]
            squares = arm[:, 2] - 2 * guess * arm[:, 1] + arm[:, 0] * guess * guess
            penalty += (-np.log1p(-bets) - bets) * np.maximum(0.0, squares)[:, None]
        gained = np.stack([slope * gap - penalty, -slope * gap - penalty, slope], axis=1)
        gained = np.where(usable[:, None, None], gained, 0.0)
        self._gained = carried(self._gained, self._sums.push(gained)[1])

    def bounds(self, row: int = -1) -> Interval | None:
        """None where nothing is refuted yet."""
        above, below, slope = self._gained[row]
        more = _log_mean_exp(above - _GAPS[:, None] * slope)
        less = _log_mean_exp(below + _GAPS[:, None] * slope)
        kept = np.flatnonzero((more < self._log_goal) & (less < self._log_goal))
        if not len(kept) or len(kept) == len(_GAPS):
            return None
        first, last = max(0, int(kept[0]) - 1), min(len(_GAPS) - 1, int(kept[-1]) + 1)
        return float(_GAPS[first]), float(_GAPS[last])


def _log_mean_exp(values: Floats) -> Floats:
    highest = values.max(axis=-1, keepdims=True)
    return np.asarray(highest[..., 0] + np.log(np.exp(values - highest).mean(axis=-1)))


def _with_odds(base: float, log_odds: float) -> float:
    odds = base / (1 - base) * float(np.exp(log_odds))
    return odds / (1 + odds)
