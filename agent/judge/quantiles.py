"""Quantiles: is the candidate slower (longer, silent for longer) by more than the margin, or not?

The threshold of a block is the control's quantile over the blocks before it. The candidate's
exceedances are counted above the threshold plus the margin. "Not slower than the margin at this
quantile" is then an odds ratio of at most 1, and the test is the one for errors. What must not fall
is counted from the other end of the histogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.judge.eprocess import Floats, Ints, Table, log_mean, log_odds_ratios_many
from agent.judge.history import History
from agent.judge.proof import margin_index
from agent.judge.running import fixed_share
from agent.judge.tilt import BULK, TAIL, Tilt

_BETS = np.log(np.array([1.15, 1.3, 1.6, 2, 3, 5, 10, 30]))
_MIRROR_BETS = np.log(np.array([0.1, 0.3, 0.5, 0.7, 0.85]))

BULK_FROM = 0.9
"""A check that names a quantile from here on is about the whole distribution, and more than 0.95
about its tail: then a tilt of each speaks as well."""
TAIL_FROM = 0.95


class Bins(NamedTuple):
    """Histograms of one arm in one block, by case: finished, and given up by the client."""

    finished: Ints
    cancelled: Ints | None = None

    def reversed(self) -> Bins:
        """The same from the other end."""
        gone = None if self.cancelled is None else self.cancelled[:, ::-1]
        return Bins(self.finished[:, ::-1], gone)

    def above(self, thresholds: Ints) -> tuple[Ints, Ints]:
        """Requests that count at each threshold, and those above it; thresholds (runs, ...).

        A request cancelled below the threshold says nothing; cancelled above it, it was slow.
        """
        count, slow = _above(self.finished, thresholds)
        if self.cancelled is None or not self.cancelled.any():
            return np.broadcast_to(count, slow.shape), slow
        _, gone = _above(self.cancelled, thresholds)
        return count + gone, slow + gone


def _above(bins: Ints, thresholds: Ints) -> tuple[Ints, Ints]:
    below = bins.cumsum(axis=-1)
    flat = np.minimum(thresholds, bins.shape[-1] - 1)
    flat = flat.reshape(len(bins), prod(thresholds.shape[1:]))
    total = below[:, -1].reshape((-1,) + (1,) * (thresholds.ndim - 1))
    return total, total - np.take_along_axis(below, flat, axis=-1).reshape(thresholds.shape)


class TailTest:
    """Some quantiles of one histogram, each with one margin (in bins) per `MARGIN_FACTORS`."""

    def __init__(
        self, quantiles: Sequence[float], margins: Sequence[int], shape: tuple[int | None, int]
    ) -> None:
        """`shape` is (runs, bins)."""
        runs, _ = shape
        self.quantiles = tuple(quantiles)
        self._levels = np.array(quantiles)
        self._margins: Ints = np.array(margins)
        self._reference = History(*shape)
        self._worse = fixed_share(runs, len(quantiles), bets=len(_BETS))
        self._mirrors = fixed_share(runs, len(quantiles), len(margins), bets=len(_MIRROR_BETS))
        shapes = [BULK] * (max(quantiles) >= BULK_FROM) + [TAIL] * (max(quantiles) > TAIL_FROM)
        self._tilts = [Tilt(one, runs, int(margins[-1])) for one in shapes]
        rest = 1 - sum(one.weight for one in shapes)
        self._weights = np.array(
            [rest / len(quantiles)] * len(quantiles) + [one.weight for one in shapes]
        )[:, None]
        self.thresholds: tuple[Ints, NDArray[np.bool_]] = (np.zeros(0, int), np.zeros(0, bool))
        """The last block's, by case and quantile: bins, and where they are known."""

    def absorb(self, candidate: Bins, control: Bins, compare: NDArray[np.bool_]) -> None:
        """One block (or more); the thresholds come from the blocks before it.

        One that is not compared still tells how the control is.
        """
        past = self._reference.push(control.finished)
        thresholds, known = self.thresholds = past.quantile_bins(self._levels)
        usable = known & compare[:, None]
        others = [column * usable for column in control.above(thresholds)]
        nearer = thresholds[..., None] + self._margins
        mine = [column * usable[..., None] for column in candidate.above(nearer)]
        wide = Table(*(c[..., :-1] for c in mine), *(c[..., None] for c in others))
        narrow = Table(*(column[..., -1] for column in mine), *others)
        (widely,) = log_odds_ratios_many(wide, ((_MIRROR_BETS, 0.0),))
        tests = ((_BETS, 0.0), (_MIRROR_BETS, 0.0))
        worse, narrowly = log_odds_ratios_many(narrow, tests)
        active: NDArray[np.bool_] = np.any(usable, axis=-1)
        self._worse.absorb(worse, active=active)
        mirrors = np.concatenate([widely, narrowly[..., None, :]], axis=-2)
        self._mirrors.absorb(mirrors, active=active)
        mask = compare[:, None]
        for tilt in self._tilts:
            tilt.absorb(past, candidate.finished * mask, control.finished * mask)

    @property
    def log_value(self) -> Floats:
        """Evidence that the candidate lies higher: the mean over quantiles and tilts, by case."""
        parts = [*self._worse.log_value.T, *(tilt.log_value for tilt in self._tilts)]
        return log_mean(np.stack(parts), self._weights, axis=0)

    def log_mirror(self, level: int) -> Floats:
        """All quantiles must be proved: the weakest speaks (intersection-union)."""
        indices = [margin_index(level, quantile) for quantile in self.quantiles]
        parts = [self._mirrors.log_value[:, i, index] for i, index in enumerate(indices)]
        return np.asarray(np.min(parts, axis=0))

    def worst(self) -> Ints:
        """By case, which quantile has the strongest evidence."""
        return np.asarray(self._worse.log_value.argmax(axis=-1))
