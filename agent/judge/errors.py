"""Errors: is the candidate's error rate higher, and is it proved not to be?"""

from __future__ import annotations

from collections import deque
from math import log

import numpy as np

from agent.judge.eprocess import (
    FixedShare,
    Table,
    log_below_rate,
    log_mean,
    log_odds_ratios_many,
)
from agent.judge.proof import PROOFS, Pace, e_value
from agent.judge.verdict import CheckResult
from agent.policy import ErrorsCheck

NULL_ODDS_RATIO = 1.2
"""No two pods are equal: what is within this is not a regression."""
_LOG_NULL = log(NULL_ODDS_RATIO)
_LOG_BETS = np.log(NULL_ODDS_RATIO * np.array([1.25, 1.5, 2, 3, 5, 10, 30, 100]))
_LOG_MIRROR_BETS = np.log(np.array([0.7, 1.0, 1.2]))
_RATE_BETS = np.array([0.0, 0.25, 0.5])
"""Times the margin."""

RECENT_BLOCKS = 36
"""Three minutes of 5 s blocks: the rise must be there now to be a reason for going back."""

GUARD_NULL_ODDS_RATIO = 20.0
"""A cold start is not a catastrophe; nearly every request failing is."""
_LOG_GUARD_NULL = log(GUARD_NULL_ODDS_RATIO)
_LOG_GUARD_BETS = np.log(GUARD_NULL_ODDS_RATIO * np.array([3, 10, 100, 1000]))


class Guard:
    """Against catastrophe, from the first second on: null odds ratio at most 20."""

    def __init__(self) -> None:
        self._process = FixedShare(len(_LOG_GUARD_BETS))
        self.seen = Table(0, 0, 0, 0)
        """Everything so far."""

    def absorb(self, table: Table) -> None:
        """One second or block."""
        self.seen = _sum(self.seen, table)
        tests = ((_LOG_GUARD_BETS, _LOG_GUARD_NULL),)
        self._process.absorb(log_odds_ratios_many(table, tests)[0])

    @property
    def log_value(self) -> float:
        """Evidence of a catastrophe."""
        return self._process.log_value


class _Mirror:
    """Evidence that the candidate is not harmful.

    Harmful means: odds ratio >= omega AND absolute rise >= margin, in every block. An e-value
    valid under either condition alone is valid under both, so two are averaged: the mirrored
    conditional 2x2 test of the odds ratio, which works at any base rate; and a one-sample test of
    the candidate's rate, which works where the base rate is nil: a rise >= margin implies a rate
    >= margin.
    """

    def __init__(self, odds_ratio: float, margin: float) -> None:
        self.test = (_LOG_MIRROR_BETS, log(odds_ratio))
        self._margin = margin
        self._relative = FixedShare(len(_LOG_MIRROR_BETS))
        self._absolute = FixedShare(len(_RATE_BETS))
        self.pace = Pace()

    def absorb(self, table: Table, log_ratios: np.typing.NDArray[np.float64]) -> None:
        self._relative.absorb(log_ratios)
        rates = _RATE_BETS * self._margin
        self._absolute.absorb(
            log_below_rate(table.candidate, table.candidate_bad, rates, self._margin)
        )

    @property
    def log_value(self) -> float:
        return log_mean(self._relative.log_value, self._absolute.log_value)


class ErrorsTest:
    """The error rates of both arms, block by block."""

    def __init__(self, check: ErrorsCheck) -> None:
        self.margin = check.margin
        self._worse = FixedShare(len(_LOG_BETS))
        self._mirrors = tuple(
            _Mirror(proof.error_odds_ratio, min(0.5, proof.error_margin_factor * check.margin))
            for proof in PROOFS
        )
        self._tests = ((_LOG_BETS, _LOG_NULL), *(mirror.test for mirror in self._mirrors))
        self._total = Table(0, 0, 0, 0)
        self._recent: deque[Table] = deque(maxlen=RECENT_BLOCKS)

    def absorb(self, table: Table) -> None:
        """One block."""
        worse, *mirrored = log_odds_ratios_many(table, self._tests)
        self._worse.absorb(worse)
        self._total = _sum(self._total, table)
        self._recent.append(table)
        for mirror, ratios in zip(self._mirrors, mirrored, strict=True):
            mirror.absorb(table, ratios)
            mirror.pace.observe(mirror.log_value, self._total.candidate)

    @property
    def log_value(self) -> float:
        """Evidence that the candidate is worse."""
        return self._worse.log_value

    @property
    def recent_rise(self) -> float | None:
        """Candidate's error rate minus control's over the last minutes; None without requests."""
        recent = Table(*(sum(column) for column in zip(*self._recent, strict=True)))
        return _rise(recent)

    @property
    def matters(self) -> bool:
        """Whether the rise of the last minutes is one that the policy cares about."""
        if not self._recent:
            return False
        rise = self.recent_rise
        return rise is not None and rise >= self.margin

    def result(self, level: int, log_goal: float) -> CheckResult:
        """The numbers so far, for the margin of this step."""
        total, mirror = self._total, self._mirrors[level]
        return CheckResult(
            candidate_count=total.candidate,
            control_count=total.control,
            candidate_value=total.candidate_bad / total.candidate if total.candidate else None,
            control_value=total.control_bad / total.control if total.control else None,
            effect=_rise(total),
            e_value=e_value(self.log_value),
            noninferiority_e_value=e_value(mirror.log_value),
            still_needed=mirror.pace.needed(mirror.log_value, total.candidate, log_goal),
        )


def _sum(one: Table, other: Table) -> Table:
    return Table(*(a + b for a, b in zip(one, other, strict=True)))


def _rise(table: Table) -> float | None:
    if not table.candidate or not table.control:
        return None
    return table.candidate_bad / table.candidate - table.control_bad / table.control
