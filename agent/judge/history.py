"""Histograms of the last blocks, by run: what thresholds are made of before a block is seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.judge.eprocess import Floats, Ints

REFERENCE_BLOCKS = 60
"""Five minutes of 5 s blocks: long enough for p99, short enough to follow the day."""
MIN_REFERENCE = 50
MIN_TAIL = 5
"""Requests expected above a threshold before it is used: p99 needs 500."""


class History:
    """Histogram of the last blocks of one arm. Bins are the last axis, runs the first."""

    def __init__(self, runs: int, bins: int) -> None:
        self._blocks = np.zeros((REFERENCE_BLOCKS, runs, bins), np.int32)
        self._next = 0
        self.bins: Ints = np.zeros((runs, bins), np.int64)

    def add(self, bins: Ints) -> None:
        """One more block; the oldest leaves."""
        self.bins += bins
        self.bins -= self._blocks[self._next]
        self._blocks[self._next] = bins
        self._next = (self._next + 1) % REFERENCE_BLOCKS

    def quantile_bins(self, quantiles: Floats) -> tuple[Ints, NDArray[np.bool_]]:
        """The bin each quantile lies in, by run and quantile, and where that can be told."""
        below = self.bins.cumsum(axis=-1)
        count = below[:, -1]
        found = [(below < (quantile * count)[:, None]).sum(axis=-1) for quantile in quantiles]
        needed = np.maximum(MIN_REFERENCE, MIN_TAIL / (1 - quantiles))
        return np.stack(found, axis=-1), count[:, None] >= needed
