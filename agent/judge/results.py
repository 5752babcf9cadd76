"""The numbers behind one check of one release: counts, values, effect, what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypedDict, Unpack

import numpy as np

from agent.judge.counts import QUANTILE_BINS, RATE_COUNTS, BlockCounts
from agent.judge.eprocess import Floats, Ints, Table, e_value
from agent.judge.history import REFERENCE_BLOCKS
from agent.judge.intervals import MeanInterval, QuantileInterval, RateInterval
from agent.judge.panel import Panel, QuantileTest
from agent.judge.proof import Pace
from agent.judge.quantiles import Bins
from agent.judge.rates import RateTest
from agent.judge.running import OVER_TIME, Bools, Sums, carried
from agent.judge.scores import ScoreTest, moments_of
from agent.judge.verdict import CheckResult
from agent.policy import Direction
from mlops.contracts.evidence import BIN_RATIO, LATENCY_FIRST_EDGE_US

DURATIONS = frozenset({"latency", "ttft", "first_event", "gaps"})
"""Checks whose bins begin at 100 microseconds; counts begin at 1."""


class Evidence(TypedDict):
    """What the panel knows of a check."""

    e_value: float
    noninferiority_e_value: float
    still_needed: int | None


class RateNumbers:
    """A rate check in words."""

    def __init__(self, name: str, test: RateTest, alpha: float) -> None:
        self._bad, self._of = RATE_COUNTS[name]
        self._test = test
        self._interval = RateInterval(alpha)
        self._total: Ints = test.total

    def absorb(self, blocks: BlockCounts, compared: Bools) -> None:
        """Blocks, of which some are compared; the panel has them already."""
        arms = (blocks.candidate.counts, blocks.control.counts)
        columns = (arm[name][compared] for arm in arms for name in (self._of, self._bad))
        self._interval.absorb(Table(*columns))
        self._total = carried(self._total, self._test.total)

    @property
    def counts(self) -> Ints:
        """Candidate requests compared, after each block."""
        return np.asarray(self._test.total[:, 0])

    def result(self, at: At, **evidence: Unpack[Evidence]) -> CheckResult:
        """With the evidence of the panel."""
        candidate, candidate_bad, control, control_bad = self._total[at.block].tolist()
        mine = candidate_bad / candidate if candidate else None
        others = control_bad / control if control else None
        return CheckResult(
            candidate_count=candidate,
            control_count=control,
            candidate_value=mine,
            control_value=others,
            effect=None if mine is None or others is None else mine - others,
            interval=self._interval.bounds(at.compared),
            candidate_bad=candidate_bad,
            control_bad=control_bad,
            **evidence,
        )


class QuantileNumbers:
    """A quantile check in words; shown is what the last blocks had."""

    def __init__(self, name: str, test: QuantileTest, alpha: float, bins: int) -> None:
        self._column = QUANTILE_BINS[name]
        self._gone = "cancelled_bins" if test.counts_cancelled else ""
        self._first_edge = LATENCY_FIRST_EDGE_US if name in DURATIONS else 1
        self._test = test
        self._side, self._first = test.sides[0]
        self._interval = QuantileInterval(self._first.quantiles, alpha)
        self._recents = Sums(OVER_TIME, 2, bins, window=REFERENCE_BLOCKS, dtype=np.int32)
        self._totals = Sums(OVER_TIME, 2)
        self._shown: Ints = np.zeros((1, 2, bins), np.int64)
        self._total: Ints = np.zeros((1, 2), np.int64)
        """Of both arms, after each compared block, and in front before them."""
        self._worst: list[float] = [self._first.quantiles[0]]
        self._by_block: Ints = np.zeros(1, np.int64)

    def absorb(self, blocks: BlockCounts, compared: Bools) -> None:
        """Blocks, of which some are compared; the panel has them already."""
        arms = [
            Bins(arm.bins[self._column][compared], _some(arm.bins.get(self._gone), compared))
            for arm in (blocks.candidate, blocks.control)
        ]
        finished = np.stack([arm.finished for arm in arms], axis=1)
        self._shown = carried(self._shown, self._recents.push(finished)[1])
        self._total = carried(self._total, self._totals.push(finished.sum(axis=-1))[1])
        self._by_block = self._total[np.cumsum(compared), 0]
        if self._side is Direction.DOWN:
            arms = [arm.reversed() for arm in arms]
        thresholds, known = self._first.thresholds
        self._interval.absorb(thresholds[compared], known[compared].astype(np.int64), *arms)
        self._worst = [self._worst[-1], *self._test.worst()]

    @property
    def counts(self) -> Ints:
        """Candidate requests compared, after each block."""
        return self._by_block

    def result(self, at: At, **evidence: Unpack[Evidence]) -> CheckResult:
        """With the evidence of the panel; at the quantile with the strongest."""
        worst = self._worst[at.block]
        mine, others = (self._shown_at(bins, worst) for bins in self._shown[at.compared])
        interval = self._interval.bounds(
            worst if self._side is Direction.UP else 1 - worst, at.compared
        )
        if interval is not None and self._side is Direction.DOWN:
            interval = (1 / (1 + interval[1]) - 1, 1 / max(1e-9, 1 + interval[0]) - 1)
        candidate, control = self._total[at.compared].tolist()
        return CheckResult(
            candidate_count=candidate,
            control_count=control,
            candidate_value=mine,
            control_value=others,
            effect=mine / others - 1 if mine and others else None,
            interval=interval,
            quantile=round(worst, 6),
            **evidence,
        )

    def _shown_at(self, bins: Ints, quantile: float) -> float | None:
        below = bins.cumsum()
        if not below[-1]:
            return None
        index = int((below < quantile * below[-1]).sum())
        return float(self._first_edge * BIN_RATIO ** (index + 1))


class ScoreNumbers:
    """A score check in words."""

    def __init__(self, test: ScoreTest, alpha: float) -> None:
        self._test = test
        self._interval = MeanInterval(alpha)
        self._total: Floats = test.total

    def absorb(self, blocks: BlockCounts, compared: Bools) -> None:
        """Blocks, of which some are compared; the panel has them already."""
        arms = (blocks.candidate.bins["score_bins"], blocks.control.bins["score_bins"])
        self._interval.absorb(*(moments_of(arm[compared]) for arm in arms))
        self._total = carried(self._total, self._test.total)

    @property
    def counts(self) -> Ints:
        """Candidate scores compared, after each block."""
        return self._test.total[:, 0, 0].astype(np.int64)

    def result(self, at: At, **evidence: Unpack[Evidence]) -> CheckResult:
        """With the evidence of the panel."""
        arms = self._total[at.block].tolist()
        mine, others = (total / count if count else None for count, total, _ in arms)
        return CheckResult(
            candidate_count=int(arms[0][0]),
            control_count=int(arms[1][0]),
            candidate_value=mine,
            control_value=others,
            effect=None if mine is None or others is None else mine - others,
            interval=self._interval.bounds(at.compared),
            **evidence,
        )


Numbers = RateNumbers | QuantileNumbers | ScoreNumbers


class At(NamedTuple):
    """After which of the last blocks: 0 is before them."""

    block: int
    compared: int
    """The same, counting only those that were compared."""


class Results:
    """Everything that is shown of a panel of one release over time."""

    def __init__(self, panel: Panel, alpha: float, bins: int) -> None:
        self._panel = panel
        self._numbers: dict[str, Numbers] = {}
        for name, test in panel.checks.items():
            if isinstance(test, RateTest):
                self._numbers[name] = RateNumbers(name, test, alpha)
            elif isinstance(test, QuantileTest):
                self._numbers[name] = QuantileNumbers(name, test, alpha, bins)
            else:
                self._numbers[name] = ScoreNumbers(test, alpha)
        self._paces = {name: Pace() for name in panel.checks}
        self._compared: Ints = np.zeros(1, np.int64)

    def absorb(self, blocks: BlockCounts, harmless: Mapping[str, Floats]) -> None:
        """Blocks that the panel has had just now, and what each check proved after them."""
        compared = self._panel.compared
        self._compared = np.append(0, np.cumsum(compared))
        for name, numbers in self._numbers.items():
            numbers.absorb(blocks, compared)
            self._paces[name].observe(harmless[name], numbers.counts)

    def at(
        self, block: int, evidence: Mapping[str, tuple[float, float]], level: int, log_goal: float
    ) -> dict[str, CheckResult]:
        """Of every check after a block, for the margins of this level.

        `evidence` is what the panel said then: that it is worse, and that it is not, as logarithms.
        """
        found = {}
        for name, (log_worse, log_mirror) in evidence.items():
            numbers, at = self._numbers[name], At(block, int(self._compared[block]))
            found[name] = numbers.result(
                at,
                e_value=e_value(log_worse),
                noninferiority_e_value=e_value(log_mirror),
                still_needed=self._paces[name].needed(block, level, log_goal),
            )
        return found


def _some(bins: Ints | None, which: Bools) -> Ints | None:
    return None if bins is None else bins[which]
