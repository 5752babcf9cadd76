"""Can the evidence be trusted? The split as asked, and a row for every answer."""

from __future__ import annotations

from collections import deque
from math import log

import numpy as np
from numpy.typing import NDArray

from agent.judge.dispersion import clustering
from agent.judge.eprocess import FixedShare, Floats, Ints, log_mean
from agent.windows import ArmBlock, Block
from mlops.contracts.plan import FULL_SHARE_BP

SAMPLE_RATIO_ALPHA = 0.001
"""A wrong alarm stops a release for nothing, so it must be rare."""
_LOG_CEILING = log(1e6)
"""Low, so that a split that was put right is believed again within minutes."""
_LOG_BETS = np.log(np.array([1.02, 1.05, 1.1, 1.2, 1.5, 2, 5, 100]))

COMPLETENESS_GOAL = 0.999
"""Rows stored over requests answered, of either arm; below it the missing may be the bad ones."""
TALLIED_GOAL = 0.5
"""Answered requests told by tallies over rows stored: a kill leaves a few rows that nobody told of,
but where most are untold nobody knows how many are missing."""
RECENT_BLOCKS = 36
"""Three minutes of 5 s blocks."""


class SampleRatioTest:
    """Null: the odds of the candidate's part are those asked for, within a tolerance both ways.

    The known share of each block makes it valid through any ramp. Where keys are sticky, users and
    not requests are split: 200 of them at 5 % are 10 give or take 3, for good. How unequal groups
    of keys are within each arm tells by how much requests outnumber independent draws; the evidence
    is divided by that.
    """

    def __init__(self, tolerance: float, runs: int = 1) -> None:
        self._log_tolerance = log(tolerance)
        self._over = FixedShare((runs,), len(_LOG_BETS))
        self._under = FixedShare((runs,), len(_LOG_BETS))
        self._groups: list[Floats] = []
        self._clustering: Floats = np.ones(runs)
        self._recent: deque[tuple[int, int, float]] = deque(maxlen=RECENT_BLOCKS)

    def absorb(self, ended: tuple[Ints, Ints], share_bp: Ints, compare: NDArray[np.bool_]) -> None:
        """One block, what ended in the candidate and in the control, and the part asked for."""
        candidate, control = ended
        total = candidate + control
        usable = compare & (total > 0) & (share_bp > 0) & (share_bp < FULL_SHARE_BP)
        share = np.where(usable, share_bp, FULL_SHARE_BP // 2) / FULL_SHARE_BP
        ceiling = _LOG_CEILING * self._clustering
        over = self._ratios(candidate * usable, total * usable, share)
        under = self._ratios(control * usable, total * usable, 1 - share)
        self._over.absorb(over, ceiling)
        self._under.absorb(under, ceiling)
        if usable[0]:
            expected = float(total[0] * share[0])
            self._recent.append((int(candidate[0]), int(total[0]), expected))

    def learn(self, *groups: Ints | None) -> None:
        """Requests of each arm by group of keys, in one block."""
        known = [one for one in groups if one is not None]
        if not self._groups:
            self._groups = [np.zeros(one.shape) for one in known]
        self._groups = [sum_ + one for sum_, one in zip(self._groups, known, strict=True)]
        if known:
            self._clustering = np.maximum.reduce([clustering(one) for one in self._groups])

    def _ratios(self, count: Ints, total: Ints, share: Floats) -> Floats:
        null = self._log_tolerance
        bets = null + _LOG_BETS
        part = share[:, None]
        normal = np.log1p(np.expm1(bets) * part) - np.log1p(np.expm1(null) * part)
        return np.asarray(count[:, None] * _LOG_BETS - total[:, None] * normal)

    @property
    def log_value(self) -> Floats:
        """Evidence that the split is not the one asked for, by run."""
        both = np.stack([self._over.log_value, self._under.log_value])
        return log_mean(both / self._clustering, axis=0)

    @property
    def is_violated(self) -> NDArray[np.bool_]:
        """By run."""
        return self.log_value >= -log(SAMPLE_RATIO_ALPHA)

    def complaint(self) -> str | None:
        """What is wrong in the first run, with the numbers; None if nothing is."""
        if not self.is_violated[0] or not self._recent:
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
            if answered < TALLIED_GOAL * rows:
                return (
                    f"log of unknown completeness: {rows} rows of the {name}, but tallies tell of "
                    f"{answered} answered requests"
                )
            if rows < COMPLETENESS_GOAL * answered:
                return (
                    f"log incomplete: {rows} rows for {answered} answered requests of the {name} "
                    f"({rows / answered:.2%}, {COMPLETENESS_GOAL:.1%} expected), "
                    f"{dropped} of them dropped by the gateway"
                )
        return None
