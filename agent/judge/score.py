"""Scores in 0..1: is the candidate's mean lower by more than the margin, or proved not to be?

Block empirical Bernstein. For xi >= -1 and 0 <= l < 1, exp(l xi - psi(l) xi^2) <= 1 + l xi with
psi(l) = -log(1-l) - l (Fan, Grama and Liu 2015; Howard et al. 2021). With xi = +-(x - guess) for a
guess made before the block and weights l that cancel the unknown level of the block, the product
over both arms has mean at most 1 under the null, for any distributions and any drift.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.judge.eprocess import FixedShare
from agent.judge.proof import MARGIN_FACTORS, PROOFS, Pace, e_value
from agent.judge.verdict import CheckResult
from agent.policy import ScoreCheck
from agent.windows import ScoreSums

_BETS = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])
FIRST_GUESS = 0.5
"""Of the mean, before any score was seen."""


def log_mean_ratios(
    higher: ScoreSums, lower: ScoreSums, shift: float, guess: float
) -> NDArray[np.float64]:
    """log e-values against "mean of higher - mean of lower <= shift" in this block."""
    if not higher.count or not lower.count:
        return np.zeros(len(_BETS))
    total = higher.count + lower.count
    harmonic = higher.count * lower.count / total
    gap = higher.total / higher.count - lower.total / lower.count - shift
    penalty = _psi(_BETS * lower.count / total) * _squares(higher, guess)
    penalty += _psi(_BETS * higher.count / total) * _squares(lower, guess)
    return np.asarray(_BETS * harmonic * gap - penalty)


def _psi(bets: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(-np.log1p(-bets) - bets)


def _squares(sums: ScoreSums, guess: float) -> float:
    spread = sums.total_squares - 2 * guess * sums.total + sums.count * guess * guess
    return max(0.0, spread)


class ScoreTest:
    """One late score of both arms, block by block of arrival."""

    def __init__(self, check: ScoreCheck) -> None:
        self.name = check.field
        self._margin = check.margin
        self._worse = FixedShare(len(_BETS))
        self._mirrors = tuple(FixedShare(len(_BETS)) for _ in MARGIN_FACTORS)
        self._paces = tuple(Pace() for _ in MARGIN_FACTORS)
        self._candidate = ScoreSums()
        self._control = ScoreSums()

    def absorb(self, candidate: ScoreSums, control: ScoreSums) -> None:
        """One block."""
        guess = self._guess()
        self._worse.absorb(log_mean_ratios(control, candidate, self._margin, guess))
        for factor, mirror in zip(MARGIN_FACTORS, self._mirrors, strict=True):
            mirror.absorb(log_mean_ratios(candidate, control, -factor * self._margin, guess))
        for mine, new in ((self._candidate, candidate), (self._control, control)):
            mine.count += new.count
            mine.total += new.total
            mine.total_squares += new.total_squares
        for pace, mirror in zip(self._paces, self._mirrors, strict=True):
            pace.observe(mirror.log_value, self._candidate.count)

    def _guess(self) -> float:
        count = self._candidate.count + self._control.count
        return (self._candidate.total + self._control.total) / count if count else FIRST_GUESS

    @property
    def log_value(self) -> float:
        """Evidence that the candidate's mean is lower by more than the margin."""
        return self._worse.log_value

    def result(self, level: int, log_goal: float) -> CheckResult:
        """The numbers so far, for the margin of this step."""
        index = MARGIN_FACTORS.index(PROOFS[level].margin_factor)
        mirrored = self._mirrors[index].log_value
        candidate, control = _mean(self._candidate), _mean(self._control)
        return CheckResult(
            candidate_count=self._candidate.count,
            control_count=self._control.count,
            candidate_value=candidate,
            control_value=control,
            effect=None if candidate is None or control is None else candidate - control,
            e_value=e_value(self.log_value),
            noninferiority_e_value=e_value(mirrored),
            still_needed=self._paces[index].needed(mirrored, self._candidate.count, log_goal),
        )


def _mean(sums: ScoreSums) -> float | None:
    return sums.total / sums.count if sums.count else None
