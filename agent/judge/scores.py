"""Scores in 0..1: is the candidate lower by more than the margin, or proved not to be?

The mean is tested by a block empirical Bernstein bound. For xi >= -1 and 0 <= l < 1,
exp(l xi - psi(l) xi^2) <= 1 + l xi with psi(l) = -log(1-l) - l (Fan, Grama and Liu 2015; Howard et
al. 2021). With xi = +-(x - guess) for a guess made before the block and weights l that cancel the
unknown level of the block, the product over both arms has mean at most 1 under the null, for any
distributions and any drift. Low quantiles and a tilt find a fall sooner, and a few answers that
collapse.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.judge.counts import Moments
from agent.judge.eprocess import Floats, Ints, log_mean
from agent.judge.proof import MARGIN_FACTORS, margin_index
from agent.judge.quantiles import Bins, TailTest
from agent.judge.running import OVER_TIME, Sums, fixed_share
from agent.policy import ScoreCheck

_BETS = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])
FIRST_GUESS = 0.5
"""Of the mean, before any score was seen."""
LOW_QUANTILES = (0.5, 0.75, 0.95)
"""p50, p25 and p5, counted from the top."""
MEAN_WEIGHT = 0.2
"""Of the mean in the evidence for a fall: it is exact for means, and slow."""


def log_mean_ratios(higher: Moments, lower: Moments, shift: Floats, guess: Floats) -> Floats:
    """log e-values against "mean of higher - mean of lower <= shift" in this block.

    Arrays of one shape; the bets become the last axis.
    """
    counts = [np.asarray(one[0], np.float64) for one in (higher, lower)]
    usable = (counts[0] > 0) & (counts[1] > 0)
    more, less = (np.maximum(1.0, one) for one in counts)
    total = more + less
    gap = higher[1] / more - lower[1] / less - shift
    penalty = _psi(_BETS * (less / total)[..., None]) * _squares(higher, guess)[..., None]
    penalty = penalty + _psi(_BETS * (more / total)[..., None]) * _squares(lower, guess)[..., None]
    gain = _BETS * (more * less / total * gap)[..., None]
    return np.where(usable[..., None], gain - penalty, 0.0)


def _psi(bets: Floats) -> Floats:
    return np.asarray(-np.log1p(-bets) - bets)


def _squares(moments: Moments, guess: Floats) -> Floats:
    count, total, squares = moments
    return np.maximum(0.0, squares - 2 * guess * total + count * guess * guess)


class ScoreTest:
    """One score of both arms, block by block."""

    def __init__(self, check: ScoreCheck, runs: int | None, bins: int) -> None:
        self._margins = np.array(MARGIN_FACTORS) * check.margin
        self._worse = fixed_share(runs, bets=len(_BETS))
        self._mirrors = fixed_share(runs, len(self._margins), bets=len(_BETS))
        in_bins = [round(margin * bins) for margin in self._margins]
        self._tail = TailTest(LOW_QUANTILES, in_bins, (runs, bins))
        self._totals = Sums(runs, 2, 3, dtype=np.float64)
        self.total: Floats = np.zeros((1 if runs is OVER_TIME else runs, 2, 3))
        """By case, candidate and control: `Moments`."""

    def absorb(self, candidate: Ints, control: Ints, compare: NDArray[np.bool_]) -> None:
        """Histograms of one block (or more); cases without scores learn nothing.

        One that is not compared still tells how the control's scores lie.
        """
        self._tail.absorb(Bins(candidate[:, ::-1]), Bins(control[:, ::-1]), compare)
        mask = compare[:, None]
        mine, others = moments_of(candidate * mask), moments_of(control * mask)
        both = np.stack([np.stack(mine, axis=-1), np.stack(others, axis=-1)], axis=1)
        before, self.total = self._totals.push(both)
        guess = _guess(before)
        fall = np.full(len(guess), self._margins[-1])
        self._worse.absorb(log_mean_ratios(others, mine, fall, guess), active=compare)
        wide = [
            log_mean_ratios(mine, others, np.full(len(guess), -margin), guess)
            for margin in self._margins
        ]
        self._mirrors.absorb(np.stack(wide, axis=1), active=compare)

    @property
    def log_value(self) -> Floats:
        """Evidence that the candidate's scores are lower by more than the margin, by case."""
        both = np.stack([self._worse.log_value, self._tail.log_value])
        return log_mean(both, np.array([[MEAN_WEIGHT], [1 - MEAN_WEIGHT]]), axis=0)

    def log_mirror(self, level: int) -> Floats:
        """Evidence that the mean is not lower by this level's margin."""
        return self._mirrors.log_value[:, margin_index(level)]


def _guess(total: Floats) -> Floats:
    count, sums = total[..., 0].sum(axis=-1), total[..., 1].sum(axis=-1)
    return np.where(count > 0, sums / np.maximum(1, count), FIRST_GUESS)


def moments_of(bins: Ints) -> Moments:
    """Of a histogram of 0..1, each score at the middle of its bin.

    Added up as whole numbers of half a bin: the sums do not depend on what is added first.
    """
    halves = 2 * np.arange(bins.shape[-1]) + 1
    unit = 1 / (2 * bins.shape[-1])
    return (
        bins.sum(axis=-1).astype(np.float64),
        unit * (bins @ halves),
        unit**2 * (bins @ halves**2),
    )
