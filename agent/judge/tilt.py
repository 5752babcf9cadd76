"""Is a whole distribution shifted up? One e-value for every request, not only for a quantile.

Give each request a weight y = exp(bet * g), g growing with its bin. Where both arms have one law,
which requests are the candidate's is a draw without replacement, and the mean of
prod(y of the candidate) / mean(y of all)^candidate is at most 1 (Hoeffding 1963). It also grows
with each y of the candidate as long as no y exceeds sum(y) / candidate, which holds if the largest
over the smallest y is at most all / candidate. Bets are cut to that, so that the mean is at most 1
too where the candidate is stochastically lower than the control, not only where it is equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.judge.eprocess import Floats, Ints
from agent.judge.history import Past
from agent.judge.running import fixed_share


@dataclass(frozen=True, slots=True)
class Shape:
    """How g grows: from 0 at `low` to 1 at `high`, quantiles of the control's past; cut off."""

    low: float
    high: float
    least: float
    most: float
    bets: tuple[float, ...]
    weight: float
    """Of the e-values of its check; quantiles share the rest."""


BULK = Shape(0.5, 0.84, -2.0, 2.0, (0.2, 0.4), 0.5)
"""A shift of everything: g counts standard deviations from the median."""
TAIL = Shape(0.975, 0.99, 0.0, 6.0, (0.2, 0.38), 0.2)
"""A few that are far slower."""


class Tilt:
    """One shape, mixed over its bets."""

    def __init__(self, shape: Shape, runs: int | None, margin_bins: int) -> None:
        self._shape = shape
        self._margin = margin_bins
        self._process = fixed_share(runs, bets=len(shape.bets))

    @property
    def log_value(self) -> Floats:
        """Evidence that the candidate lies higher by more than the margin, by case."""
        return self._process.log_value

    def absorb(self, past: Past, candidate: Ints, control: Ints) -> None:
        """One block (or more). Without requests in an arm, or without a past, nothing is learnt."""
        shape = self._shape
        quantiles = np.array([shape.low, shape.high])
        at, known = past.quantile_bins(quantiles)
        spread = np.maximum(1, at[:, 1] - at[:, 0])[:, None]
        bins = np.arange(candidate.shape[-1])
        g = np.clip((bins - at[:, :1]) / spread, shape.least, shape.most)
        nearer = _moved_down(candidate, self._margin)
        counted, others = nearer.sum(axis=-1), control.sum(axis=-1)
        usable = known.all(axis=-1) & (counted > 0) & (others > 0)
        total = np.maximum(1, counted + others)
        limit = np.log(total / np.maximum(1, counted)) / (shape.most - shape.least)
        gained = (nearer * g).sum(axis=-1)
        every = nearer + control
        ratios = np.zeros((len(total), len(shape.bets)))
        for index, bet in enumerate(shape.bets):
            cut = np.minimum(bet, limit)
            mean = (every * np.exp(cut[:, None] * g)).sum(axis=-1) / total
            ratio = cut * gained - counted * np.log(np.where(usable, mean, 1.0))
            ratios[:, index] = np.where(usable, ratio, 0.0)
        self._process.absorb(ratios, active=usable)


def _moved_down(bins: Ints, margin: int) -> Ints:
    if not margin:
        return bins
    moved = np.zeros_like(bins)
    moved[:, :-margin] = bins[:, margin:]
    moved[:, 0] += bins[:, :margin].sum(axis=-1)
    return moved
