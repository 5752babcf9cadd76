"""Can the evidence be trusted? The split as asked, and a row for every answer."""

from __future__ import annotations

from collections.abc import Mapping
from math import log

import numpy as np
from numpy.typing import NDArray

from agent.judge.dispersion import clustering
from agent.judge.eprocess import Floats, Ints, log_mean
from agent.judge.running import OVER_TIME, Sums, carried, fixed_share
from mlops.contracts.evidence import KEY_GROUPS
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

    def __init__(self, tolerance: float, runs: int | None = 1) -> None:
        self._log_tolerance = log(tolerance)
        self._is_over_time = runs is OVER_TIME
        self._over = fixed_share(runs, bets=len(_LOG_BETS))
        self._under = fixed_share(runs, bets=len(_LOG_BETS))
        self._groups = tuple(Sums(runs, KEY_GROUPS) for _ in range(2))
        self._clustering: Floats = np.ones(1 if runs is OVER_TIME else runs)
        self._recents = Sums(OVER_TIME, 3, window=RECENT_BLOCKS, dtype=np.float64)
        self._recent: Floats = np.zeros((1, 3))
        """By block of the first run: ended in the candidate, in both; expected in the candidate."""

    def absorb(self, ended: tuple[Ints, Ints], share_bp: Ints, compare: NDArray[np.bool_]) -> None:
        """One block (or more), what ended in the candidate and in the control, the part asked for.

        What `learn` was told of a block comes first.
        """
        candidate, control = ended
        total = candidate + control
        usable = compare & (total > 0) & (share_bp > 0) & (share_bp < FULL_SHARE_BP)
        share = np.where(usable, share_bp, FULL_SHARE_BP // 2) / FULL_SHARE_BP
        ceiling = np.broadcast_to(_LOG_CEILING * self._clustering, total.shape)
        self._over.absorb(self._ratios(candidate * usable, total * usable, share), ceiling)
        self._under.absorb(self._ratios(control * usable, total * usable, 1 - share), ceiling)
        self._remember(np.stack([candidate, total, total * share], axis=-1), usable)

    def _remember(self, seen: Floats, usable: NDArray[np.bool_]) -> None:
        """Of the first run; blocks that say nothing of the split do not count."""
        if not self._is_over_time:
            seen, usable = seen[:1], usable[:1]
        after = carried(self._recent, self._recents.push(seen[usable])[1])
        self._recent = after[np.cumsum(usable)]

    def learn(self, *groups: Ints | None) -> None:
        """Requests of each arm by group of keys, in one block (or more)."""
        known = [
            sums.push(one)[1]
            for sums, one in zip(self._groups, groups, strict=True)
            if one is not None
        ]
        if known:
            self._clustering = np.maximum.reduce([clustering(one) for one in known])

    def _ratios(self, count: Ints, total: Ints, share: Floats) -> Floats:
        null = self._log_tolerance
        bets = null + _LOG_BETS
        part = share[:, None]
        normal = np.log1p(np.expm1(bets) * part) - np.log1p(np.expm1(null) * part)
        return np.asarray(count[:, None] * _LOG_BETS - total[:, None] * normal)

    @property
    def log_value(self) -> Floats:
        """Evidence that the split is not the one asked for, by case."""
        both = np.stack([self._over.log_value, self._under.log_value])
        return log_mean(both / self._clustering, axis=0)

    @property
    def is_violated(self) -> NDArray[np.bool_]:
        """By case."""
        return self.log_value >= -log(SAMPLE_RATIO_ALPHA)

    def complaint(self, case: int) -> str | None:
        """What is wrong in the case, with the numbers; None if nothing is."""
        candidate, total, expected = self._recent[case].tolist()
        if not self.is_violated[case] or not total:
            return None
        return (
            f"split not as asked: the candidate got {candidate:.0f} of the last {total:.0f} "
            f"requests ({candidate / total:.2%}), expected about {expected:.0f} "
            f"({expected / total:.2%})"
        )


class Completeness:
    """Rows against answers of one release over the last blocks, of each arm."""

    def __init__(self) -> None:
        self._recents = Sums(OVER_TIME, 2, 3, window=RECENT_BLOCKS)
        self._recent: Ints = np.zeros((1, 2, 3), np.int64)
        """By block and arm: rows, answered, dropped."""

    def absorb(self, *arms: Mapping[str, Ints]) -> None:
        """Blocks: counts of the candidate, then of the control."""
        names = ("rows", "answered", "dropped")
        counts = np.stack([np.stack([arm[name] for name in names], axis=-1) for arm in arms], 1)
        _, self._recent = self._recents.push(counts)

    @property
    def is_violated(self) -> NDArray[np.bool_]:
        """By block."""
        rows, answered = self._recent[..., 0], self._recent[..., 1]
        wrong = (answered < TALLIED_GOAL * rows) | (rows < COMPLETENESS_GOAL * answered)
        return np.asarray(wrong.any(axis=-1))

    def complaint(self, block: int) -> str | None:
        """What is missing, with the numbers; None if nothing is."""
        arms = zip(("candidate", "control"), self._recent[block].tolist(), strict=True)
        for name, (rows, answered, dropped) in arms:
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
