"""Histograms of the last blocks, by run: what thresholds are made of before a block is seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.judge.eprocess import Floats, Ints
from agent.judge.running import Sums

REFERENCE_BLOCKS = 60
"""Five minutes of 5 s blocks: long enough for p99, short enough to follow the day."""
MIN_REFERENCE = 50
MIN_TAIL = 5
"""Requests expected above a threshold before it is used: p99 needs 500."""


@dataclass(frozen=True, slots=True)
class Past:
    """Histogram of the last blocks of one arm. Bins are the last axis."""

    bins: Ints

    def quantile_bins(self, quantiles: Floats) -> tuple[Ints, NDArray[np.bool_]]:
        """The bin each quantile lies in, by case and quantile, and where that can be told."""
        below = self.bins.cumsum(axis=-1)
        count = below[:, -1]
        found = [(below < (quantile * count)[:, None]).sum(axis=-1) for quantile in quantiles]
        needed = np.maximum(MIN_REFERENCE, MIN_TAIL / (1 - quantiles))
        return np.stack(found, axis=-1), count[:, None] >= needed


class History:
    """What the last blocks of one arm were, as each block begins."""

    def __init__(self, runs: int | None, bins: int) -> None:
        self._sums = Sums(runs, bins, window=REFERENCE_BLOCKS, dtype=np.int32)

    def push(self, bins: Ints) -> Past:
        """One more block (or more); what came before it."""
        before, _ = self._sums.push(bins)
        return Past(before)
