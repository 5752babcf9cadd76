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
        self._log_likelihood: Floats = np.zeros(len(_LOG_ODDS))
        self._total = np.zeros(4)

    def absorb(self, table: Table) -> None:
        """One block."""
        columns = np.array([float(np.ravel(one)[0]) for one in table])
        if not columns.any():
            return
        self._total += columns
        partition, above_lowest = log_partition(Table(*columns), _LOG_ODDS)
        self._log_likelihood += above_lowest * _LOG_ODDS - partition

    def bounds(self) -> Interval | None:
        """None without requests."""
        candidate, candidate_bad, control, control_bad = self._total
        if not candidate or not control:
            return None
        base = (control_bad + 0.5) / (control + 1)
        mixture = _log_mean_exp(self._log_likelihood)
        kept = np.flatnonzero(mixture - self._log_likelihood < self._log_goal)
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
        self._log_ratios = np.zeros((len(quantiles), len(_SHIFTS), len(_TWO_SIDED)))

    def absorb(self, thresholds: Ints, known: Ints, candidate: Bins, control: Bins) -> None:
        """One block of one run, with the control's quantile bins of the blocks before."""
        nearer = np.maximum(0, thresholds[..., None] + _SHIFTS)
        mine = [column[0] * known[0, :, None] for column in candidate.above(nearer)]
        others = [column[0, :, None] * known[0, :, None] for column in control.above(thresholds)]
        self._log_ratios += log_odds_ratios(Table(*mine, *others), _TWO_SIDED, 0.0)

    def bounds(self, quantile: float) -> Interval | None:
        """None where nothing is refuted yet."""
        at = int(np.abs(self._levels - quantile).argmin())
        evidence = _log_mean_exp(self._log_ratios[at])
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
        self._gain = np.zeros((2, len(_MEAN_BETS)))
        self._slope = np.zeros(len(_MEAN_BETS))
        self._seen = np.zeros(2)

    def absorb(self, candidate: Moments, control: Moments) -> None:
        """One block of one run."""
        mine = np.array([float(one[0]) for one in candidate])
        others = np.array([float(one[0]) for one in control])
        guess = self._seen[1] / self._seen[0] if self._seen[0] else 0.5
        self._seen += mine[:2] + others[:2]
        if not mine[0] or not others[0]:
            return
        total = mine[0] + others[0]
        half = mine[0] * others[0] / total
        gap = mine[1] / mine[0] - others[1] / others[0]
        penalty = 0.0
        for arm, other in ((mine, others), (others, mine)):
            bets = _MEAN_BETS * other[0] / total
            squares = max(0.0, arm[2] - 2 * guess * arm[1] + arm[0] * guess * guess)
            penalty = penalty + (-np.log1p(-bets) - bets) * squares
        self._gain[0] += _MEAN_BETS * half * gap - penalty
        self._gain[1] += -_MEAN_BETS * half * gap - penalty
        self._slope += _MEAN_BETS * half

    def bounds(self) -> Interval | None:
        """None where nothing is refuted yet."""
        more = _log_mean_exp(self._gain[0] - _GAPS[:, None] * self._slope)
        less = _log_mean_exp(self._gain[1] + _GAPS[:, None] * self._slope)
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
