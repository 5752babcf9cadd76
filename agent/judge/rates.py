"""Rates: does the candidate fail, refuse or find nothing more often, and is it proved not to?"""

from __future__ import annotations

from math import log

import numpy as np
from numpy.typing import NDArray

from agent.judge.eprocess import (
    Floats,
    Ints,
    Table,
    log_below_rate,
    log_mean,
    log_odds_ratios,
    log_odds_ratios_many,
)
from agent.judge.proof import PROOFS
from agent.judge.running import OVER_TIME, Sums, fixed_share
from agent.policy import RateCheck

_BETS = np.log(np.array([1.5, 2, 3, 5, 10, 40]))
"""Above the tolerated odds ratio."""
_MIRROR_BETS = np.log(np.array([0.7, 1.0, 1.2]))
_RATE_BETS = np.array([0.0, 0.25, 0.5])
"""Times the margin."""

RECENT_BLOCKS = 36
"""Three minutes of 5 s blocks: the rise must be there now to be a reason for going back."""

GUARD_NULL_ODDS_RATIO = 20.0
"""A cold start is not a catastrophe; nearly every request failing is."""
_GUARD_NULL = log(GUARD_NULL_ODDS_RATIO)
_GUARD_BETS = np.log(GUARD_NULL_ODDS_RATIO * np.array([3, 10, 100, 1000]))

HANGING_NULL_ODDS_RATIO = 1.5
_HANGING_NULL = log(HANGING_NULL_ODDS_RATIO)
_HANGING_BETS = np.log(HANGING_NULL_ODDS_RATIO * np.array([2, 10, 100, 1000]))

Bools = NDArray[np.bool_]


class OneSided:
    """Is the odds ratio above a null that is never to be reached? For the guards."""

    def __init__(self, runs: int | None, null: float, bets: Floats) -> None:
        self._null, self._bets = null, bets
        self._process = fixed_share(runs, bets=len(bets), rests=True)

    def absorb(self, table: Table) -> None:
        """One second or block (or more). Without a bad one there is nothing to bet on."""
        has_bad = (np.asarray(table.candidate_bad) > 0) | (np.asarray(table.control_bad) > 0)
        ratios = np.zeros((*has_bad.shape, len(self._bets)))
        if has_bad.any():
            some = Table(*(np.asarray(one)[has_bad] for one in table))
            ratios[has_bad] = log_odds_ratios(some, self._bets, self._null)
        self._process.absorb(ratios, active=has_bad)

    @property
    def log_value(self) -> Floats:
        """Evidence, by case."""
        return self._process.log_value


def guard(runs: int | None) -> OneSided:
    """Against catastrophe, from the first second on: null odds ratio at most 20."""
    return OneSided(runs, _GUARD_NULL, _GUARD_BETS)


def hanging(runs: int | None) -> OneSided:
    """Against answers that never end: requests that were open for a minute, of those that ended."""
    return OneSided(runs, _HANGING_NULL, _HANGING_BETS)


class RateTest:
    """The rates of both arms, block by block.

    Evidence that the candidate is not harmful: harmful means odds ratio >= omega AND absolute rise
    >= margin, in every block. An e-value valid under either condition alone is valid under both, so
    two are averaged: the mirrored conditional 2x2 test of the odds ratio, which works at any base
    rate; and a one-sample test of the candidate's rate, which works where the base rate is nil: a
    rise >= margin implies a rate >= margin.
    """

    def __init__(self, check: RateCheck, runs: int | None) -> None:
        self.margin = check.margin
        null = log(check.tolerance)
        self._tests = (
            (null + _BETS, null),
            *((_MIRROR_BETS, log(proof.odds_ratio)) for proof in PROOFS),
        )
        self._worse = fixed_share(runs, bets=len(_BETS))
        self._relative = fixed_share(runs, len(PROOFS), bets=len(_MIRROR_BETS))
        self._absolute = fixed_share(runs, len(PROOFS), bets=len(_RATE_BETS))
        margins = np.array([[proof.rate_margin_factor * check.margin] for proof in PROOFS])
        self._margins = np.minimum(0.5, margins)
        self._totals = Sums(runs, 4)
        self._recents = Sums(runs, 4, window=RECENT_BLOCKS)
        self.total: Ints = np.zeros((1 if runs is OVER_TIME else runs, 4), np.int64)
        """By case; columns as in `Table`."""
        self._recent = self.total

    def absorb(self, table: Table, compare: Bools, phi: Floats) -> None:
        """One block (or more); where it is not to be compared, all stays as it is."""
        columns: Ints = np.stack([np.asarray(one) for one in table]) * compare
        _, self.total = self._totals.push(columns.T)
        _, self._recent = self._recents.push(columns.T)
        active: Bools = np.any(columns, axis=0)
        worse, *mirrored = log_odds_ratios_many(Table(*columns), self._tests)
        self._worse.absorb(worse / phi[:, None], active=active)
        self._relative.absorb(np.stack(mirrored, axis=1) / phi[:, None, None], active=active)
        absolute = np.zeros((len(active), len(PROOFS), len(_RATE_BETS)))
        if self.margin > 0:
            counts, bad = columns[0][:, None], columns[1][:, None]
            absolute = log_below_rate(counts, bad, _RATE_BETS * self._margins, self._margins)
        self._absolute.absorb(absolute / phi[:, None, None], active=active & (self.margin > 0))

    @property
    def log_value(self) -> Floats:
        """Evidence that the candidate is worse, by case."""
        return self._worse.log_value

    def log_mirror(self, level: int) -> Floats:
        """Evidence that it is not worse than the margin of this level."""
        both = np.stack([self._relative.log_value[:, level], self._absolute.log_value[:, level]])
        return log_mean(both, axis=0)

    @property
    def recent_rise(self) -> Floats:
        """Candidate's rate minus control's over the last minutes; 0 without requests."""
        candidate, candidate_bad, control, control_bad = self._recent.T
        with np.errstate(divide="ignore", invalid="ignore"):
            rise = candidate_bad / candidate - control_bad / control
        return np.where((candidate > 0) & (control > 0), rise, 0.0)

    @property
    def matters(self) -> Bools:
        """Whether the rise of the last minutes is one that the policy cares about."""
        rise = self.recent_rise
        return (rise > 0) & (rise >= self.margin)
