"""The numbers behind one check of one release: counts, values, effect, what is missing."""

from __future__ import annotations

from typing import TypedDict, Unpack

import numpy as np

from agent.judge.counts import QUANTILE_BINS, RATE_COUNTS, BlockCounts
from agent.judge.eprocess import Floats, Ints, Table, e_value
from agent.judge.history import History
from agent.judge.intervals import MeanInterval, QuantileInterval, RateInterval
from agent.judge.panel import Panel, QuantileTest
from agent.judge.proof import PROOFS, Pace
from agent.judge.quantiles import Bins
from agent.judge.rates import RateTest
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

    def absorb(self, block: BlockCounts) -> None:
        """One compared block."""
        arms = (block.candidate.counts, block.control.counts)
        self._interval.absorb(Table(*(arm[name] for arm in arms for name in (self._of, self._bad))))

    @property
    def count(self) -> int:
        """Candidate requests compared."""
        return int(self._test.total[0, 0])

    def result(self, **evidence: Unpack[Evidence]) -> CheckResult:
        """With the evidence of the panel."""
        candidate, candidate_bad, control, control_bad = (
            int(one) for one in self._test.total[:, 0]
        )
        mine = candidate_bad / candidate if candidate else None
        others = control_bad / control if control else None
        return CheckResult(
            candidate_count=candidate,
            control_count=control,
            candidate_value=mine,
            control_value=others,
            effect=None if mine is None or others is None else mine - others,
            interval=self._interval.bounds(),
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
        self._side, first = test.sides[0]
        self._reference = first.reference
        self._interval = QuantileInterval(first.quantiles, alpha)
        self._levels = np.array(first.quantiles)
        self._shown = (History(1, bins), History(1, bins))
        self._counts = [0, 0]

    def absorb(self, block: BlockCounts) -> None:
        """One compared block, before the panel has it: the thresholds are those of the past."""
        arms = [
            Bins(arm.bins[self._column], arm.bins.get(self._gone))
            for arm in (block.candidate, block.control)
        ]
        for index, arm in enumerate(arms):
            self._shown[index].add(arm.finished)
            self._counts[index] += int(arm.finished.sum())
        if self._side is Direction.DOWN:
            arms = [arm.reversed() for arm in arms]
        thresholds, known = self._reference.quantile_bins(self._levels)
        self._interval.absorb(thresholds, known.astype(np.int64), *arms)

    @property
    def count(self) -> int:
        """Candidate requests compared."""
        return self._counts[0]

    def result(self, **evidence: Unpack[Evidence]) -> CheckResult:
        """With the evidence of the panel; at the quantile with the strongest."""
        worst = self._test.worst()
        mine, others = (self._shown_at(one.bins, worst) for one in self._shown)
        interval = self._interval.bounds(worst if self._side is Direction.UP else 1 - worst)
        if interval is not None and self._side is Direction.DOWN:
            interval = (1 / (1 + interval[1]) - 1, 1 / max(1e-9, 1 + interval[0]) - 1)
        return CheckResult(
            candidate_count=self._counts[0],
            control_count=self._counts[1],
            candidate_value=mine,
            control_value=others,
            effect=mine / others - 1 if mine and others else None,
            interval=interval,
            quantile=round(worst, 6),
            **evidence,
        )

    def _shown_at(self, bins: Ints, quantile: float) -> float | None:
        below = bins[0].cumsum()
        if not below[-1]:
            return None
        index = int((below < quantile * below[-1]).sum())
        return float(self._first_edge * BIN_RATIO ** (index + 1))


class ScoreNumbers:
    """A score check in words."""

    def __init__(self, test: ScoreTest, alpha: float) -> None:
        self._test = test
        self._interval = MeanInterval(alpha)

    def absorb(self, block: BlockCounts) -> None:
        """One compared block."""
        arms = (block.candidate.bins["score_bins"], block.control.bins["score_bins"])
        self._interval.absorb(moments_of(arms[0]), moments_of(arms[1]))

    @property
    def count(self) -> int:
        """Candidate scores compared."""
        return int(self._test.candidate[0][0])

    def result(self, **evidence: Unpack[Evidence]) -> CheckResult:
        """With the evidence of the panel."""
        arms = (self._test.candidate, self._test.control)
        mine, others = (float(arm[1][0] / arm[0][0]) if arm[0][0] else None for arm in arms)
        return CheckResult(
            candidate_count=int(arms[0][0][0]),
            control_count=int(arms[1][0][0]),
            candidate_value=mine,
            control_value=others,
            effect=None if mine is None or others is None else mine - others,
            interval=self._interval.bounds(),
            **evidence,
        )


Numbers = RateNumbers | QuantileNumbers | ScoreNumbers


class Results:
    """Everything that is shown of a panel of one run."""

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
        self._paces = {name: [Pace() for _ in PROOFS] for name in panel.checks}

    def before(self, block: BlockCounts) -> None:
        """A block that is compared, before the panel has it."""
        for numbers in self._numbers.values():
            numbers.absorb(block)

    def after(self) -> None:
        """Once the panel has it: how fast proof grows."""
        for name, test in self._panel.checks.items():
            count = self._numbers[name].count
            for level, pace in enumerate(self._paces[name]):
                pace.observe(float(test.log_mirror(level)[0]), count)

    def at(self, level: int, log_goal: float) -> dict[str, CheckResult]:
        """Of every check, for the margins of this level."""
        return {
            name: self._one(name, _first(test.log_value), _first(test.log_mirror(level)),
                            self._paces[name][level], log_goal)
            for name, test in self._panel.checks.items()
        }  # fmt: skip

    def _one(
        self, name: str, log_worse: float, log_mirror: float, pace: Pace, log_goal: float
    ) -> CheckResult:
        numbers = self._numbers[name]
        return numbers.result(
            e_value=e_value(log_worse),
            noninferiority_e_value=e_value(log_mirror),
            still_needed=pace.needed(log_mirror, numbers.count, log_goal),
        )


def _first(values: Floats) -> float:
    return float(values[0])
