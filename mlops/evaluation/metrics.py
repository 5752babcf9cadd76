"""Measures of a ranking, with intervals. Pure: ranks in, numbers out.

Every query has one right document, so nDCG at k is 1 / log2(1 + rank) within the first k
(Järvelin and Kekäläinen 2002), and the mean reciprocal rank takes every rank. Intervals are
percentiles of the bootstrap over queries (Efron 1979); a comparison resamples the differences of
the same queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Final

import numpy as np
import numpy.typing as npt

Ranks = npt.NDArray[np.intp]
"""Of each query's right document, from 1."""
Values = npt.NDArray[np.float64]

RESAMPLES: Final = 2_000
CONFIDENCE: Final = 0.95
_RESAMPLED_AT_ONCE: Final = 1_000_000
"""Draws held in memory: 16 MB."""

MRR: Final = "mrr"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def is_gain(self) -> bool:
        """Clear of zero, above it."""
        return self.low > 0


def per_query(ranks: Ranks) -> dict[str, Values]:
    """Every measure of every query; the mean over queries is the model's."""
    ranks_from_1 = ranks.astype(np.float64)
    if len(ranks) and ranks_from_1.min() < 1:
        raise ValueError(f"rank {ranks_from_1.min():g} is below 1")
    found = {MRR: 1 / ranks_from_1}
    for depth in (1, 5, 10):
        found[f"recall_at_{depth}"] = (ranks_from_1 <= depth).astype(np.float64)
    found["ndcg_at_10"] = np.where(ranks_from_1 <= 10, 1 / np.log2(1 + ranks_from_1), 0.0)
    return found


def bootstrapped(values: Values, seed: int) -> Estimate:
    """The mean of `values`, one for each query, and the interval of that mean.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("a mean over no queries")
    generator = np.random.default_rng(seed)
    at_once = max(1, _RESAMPLED_AT_ONCE // len(values))
    means: list[Values] = []
    for start in range(0, RESAMPLES, at_once):
        times = min(at_once, RESAMPLES - start)
        drawn = generator.integers(0, len(values), (times, len(values)))
        means.append(values[drawn].mean(axis=1))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail))
    return Estimate(value=float(values.mean()), low=float(low), high=float(high))


def gain(candidate: Ranks, baseline: Ranks, seed: int, measure: str = MRR) -> Estimate:
    """How much better the candidate is on the same queries: the paired bootstrap."""
    if len(candidate) != len(baseline):
        raise ValueError(f"{len(candidate)} and {len(baseline)} queries; expected the same ones")
    return bootstrapped(per_query(candidate)[measure] - per_query(baseline)[measure], seed)


def estimates(ranks: Ranks, seed: int) -> dict[str, Estimate]:
    """Every measure with its interval."""
    return {name: bootstrapped(values, seed) for name, values in per_query(ranks).items()}


def registry_metrics(ranks: Ranks) -> dict[str, float]:
    """As the registry takes them: means, the standard error of the MRR, and how many queries."""
    means: Mapping[str, float] = {
        name: float(values.mean()) for name, values in per_query(ranks).items()
    }
    spread = float(per_query(ranks)[MRR].std(ddof=1)) if len(ranks) > 1 else 0.0
    return {**means, "mrr_stderr": spread / sqrt(len(ranks)), "queries": float(len(ranks))}
