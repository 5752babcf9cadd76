"""Can the evidence be trusted? The split as asked, and a row for every answer."""

from __future__ import annotations

from collections import deque
from math import log

import numpy as np

from agent.judge.eprocess import FixedShare, log_mean
from agent.windows import ArmBlock, Block
from mlops.contracts.plan import FULL_SHARE_BP

SAMPLE_RATIO_ALPHA = 0.001
"""A wrong alarm stops a release for nothing, so it must be rare."""
_LOG_CEILING = log(1e6)
"""Low, so that a split that was put right is believed again within minutes."""
_LOG_BETS = np.log(np.array([1.02, 1.05, 1.1, 1.2, 1.5, 2, 5, 100]))

COMPLETENESS_GOAL = 0.999
"""Rows stored over requests answered, of either arm; below it the missing may be the bad ones."""
RECENT_BLOCKS = 36
"""Three minutes of 5 s blocks."""


class SampleRatioTest:
    """Null: the odds of the candidate's part are those asked for, within a tolerance both ways.

    The known share of each block makes it valid through any ramp. The tolerance is for sticky keys:
    few users of unequal weight do not split as independent draws would.
    """

    def __init__(self, tolerance: float) -> None:
        self._log_tolerance = log(tolerance)
        self._over = FixedShare(len(_LOG_BETS), log_ceiling=_LOG_CEILING)
        self._under = FixedShare(len(_LOG_BETS), log_ceiling=_LOG_CEILING)
        self._recent: deque[tuple[int, int, float]] = deque(maxlen=RECENT_BLOCKS)

    def absorb(self, candidate: int, control: int, share_bp: int) -> None:
        """One block in which the candidate was to get this part."""
        total = candidate + control
        if not total or not 0 < share_bp < FULL_SHARE_BP:
            return
        share = share_bp / FULL_SHARE_BP
        self._over.absorb(self._ratios(candidate, total, share))
        self._under.absorb(self._ratios(control, total, 1 - share))
        self._recent.append((candidate, total, total * share))

    def _ratios(self, count: int, total: int, share: float) -> np.typing.NDArray[np.float64]:
        null = self._log_tolerance
        bets = null + _LOG_BETS
        normal = np.log1p(np.expm1(bets) * share) - np.log1p(np.expm1(null) * share)
        return np.asarray(count * _LOG_BETS - total * normal)

    @property
    def log_value(self) -> float:
        """Evidence that the split is not the one asked for."""
        return log_mean(self._over.log_value, self._under.log_value)

    def complaint(self) -> str | None:
        """What is wrong, with the numbers; None if nothing is."""
        if self.log_value < -log(SAMPLE_RATIO_ALPHA):
            return None
        candidate, total, expected = (sum(column) for column in zip(*self._recent, strict=True))
        return (
            f"split not as asked: the candidate got {candidate} of the last {total} requests "
            f"({candidate / total:.2%}), expected about {expected:.0f} ({expected / total:.2%})"
        )


class Completeness:
    """Rows against answers over the last blocks, of each arm."""

    def __init__(self) -> None:
        self._recent: deque[tuple[ArmBlock, ArmBlock]] = deque(maxlen=RECENT_BLOCKS)

    def absorb(self, block: Block) -> None:
        """One block."""
        self._recent.append((block.candidate, block.control))

    def complaint(self) -> str | None:
        """What is missing, with the numbers; None if nothing is."""
        for name, side in (("candidate", 0), ("control", 1)):
            arms = [pair[side] for pair in self._recent]
            answered = sum(arm.answered for arm in arms)
            rows = sum(arm.rows for arm in arms)
            dropped = sum(arm.dropped for arm in arms)
            if rows < COMPLETENESS_GOAL * answered:
                return (
                    f"log incomplete: {rows} rows for {answered} answered requests of the {name} "
                    f"({rows / answered:.2%}, {COMPLETENESS_GOAL:.1%} expected), "
                    f"{dropped} of them dropped by the gateway"
                )
        return None
