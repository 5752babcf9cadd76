"""How much must be proved before the weight goes up: little at first, the policy's margins at last.

At 5 % the candidate can harm few, and proving 10 % there would take hours; every step halves what
may still be hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from agent.judge.eprocess import Floats, Ints
from agent.policy import Policy, SetWeight

TAIL_QUANTILE = 0.95
"""Quantiles beyond need several times the requests for the same margin."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What a step must rule out."""

    up_to_share_bp: float
    odds_ratio: float
    """Of rates: errors, refusals and their like."""
    rate_margin_factor: float
    """Times the policy's absolute margin of a rate."""
    margin_factor: float
    """Times the policy's margins of quantiles and scores."""
    tail_margin_factor: float
    """The same for quantiles beyond `TAIL_QUANTILE`."""


PROOFS = (
    Proof(500, 5.0, 4.0, 2.0, 4.0),
    Proof(2500, 3.0, 2.0, 2.0, 4.0),
    Proof(inf, 2.0, 1.0, 1.0, 1.0),
)
FINAL = len(PROOFS) - 1
MARGIN_FACTORS = (4.0, 2.0, 1.0)
"""Every margin factor that occurs, widest first."""


def margin_index(level: int, quantile: float = 0.5) -> int:
    """Index in `MARGIN_FACTORS` of what this level proves at a quantile."""
    proof = PROOFS[level]
    factor = proof.tail_margin_factor if quantile > TAIL_QUANTILE else proof.margin_factor
    return MARGIN_FACTORS.index(factor)


def level_for(share_bp: int, policy: Policy) -> int:
    """Index in `PROOFS` for a candidate that has this share; the last step proves everything."""
    last = max((step.share_bp for step in policy.steps if isinstance(step, SetWeight)), default=0)
    if share_bp >= last:
        return FINAL
    return next(i for i, proof in enumerate(PROOFS) if share_bp <= proof.up_to_share_bp)


class Pace:
    """From the growth of log e-values so far, one of each level, how many more requests they need.

    Arrays by block and level, of the last blocks; in front, before them.
    """

    def __init__(self) -> None:
        self._values: Floats = np.zeros((1, len(PROOFS)))
        self._lowest = self._values
        self._lowest_at: Ints = np.zeros((1, len(PROOFS)), np.int64)
        self._counts: Ints = np.zeros(1, np.int64)

    def observe(self, log_values: Floats, counts: Ints) -> None:
        """The values after each block, and after so many candidate requests."""
        before = self._lowest[-1:]
        self._values = np.concatenate([self._values[-1:], log_values])
        lowest = np.minimum.accumulate(np.concatenate([before, log_values]), axis=0)
        self._counts = np.concatenate([self._counts[-1:], counts])
        is_lowest = log_values <= lowest[:-1]
        rows = np.where(is_lowest, np.arange(1, len(lowest))[:, None], 0)
        since = np.maximum.accumulate(np.concatenate([np.zeros_like(rows[:1]), rows]), axis=0)
        self._lowest_at = np.where(since > 0, self._counts[since], self._lowest_at[-1:])
        self._lowest = lowest

    def needed(self, row: int, level: int, log_goal: float) -> int | None:
        """After so many of the last blocks: requests to `log_goal`.

        At the pace since the lowest point.
        """
        log_value = float(self._values[row, level])
        if log_value >= log_goal:
            return 0
        grown = log_value - float(self._lowest[row, level])
        seen = int(self._counts[row] - self._lowest_at[row, level])
        if grown <= 0 or seen <= 0:
            return None
        return round((log_goal - log_value) * seen / grown) or 1
