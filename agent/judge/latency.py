"""Latency: is a quantile of the candidate slower by more than the margin, or proved not to be?

The threshold of a block is the control's quantile over the blocks before it. The candidate's
exceedances are counted above the threshold plus the margin. "Not slower than the margin at this
quantile" is then an odds ratio of at most 1, and the test is the one for errors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import log

import numpy as np

from agent.judge.eprocess import FixedShare, Table, log_mean, log_odds_ratios_many
from agent.judge.proof import MARGIN_FACTORS, PROOFS, Pace, e_value
from agent.judge.verdict import CheckResult
from agent.policy import LatencyCheck
from agent.windows import merge_bins
from mlops.contracts.evidence import LATENCY_BIN_RATIO, LATENCY_FIRST_EDGE_US

REFERENCE_BLOCKS = 60
"""Five minutes of 5 s blocks: long enough for p99, short enough to follow the day."""
MIN_REFERENCE = 50
MIN_TAIL = 5
"""Control requests expected above a threshold before it is used: p99 needs 500."""

_LOG_BETS = np.log(np.array([1.15, 1.3, 1.6, 2, 3, 5, 10, 30]))
_LOG_MIRROR_BETS = np.log(np.array([0.1, 0.3, 0.5, 0.7, 0.85]))

Bins = Mapping[int, int]


@dataclass(frozen=True, slots=True)
class ArmLatency:
    """Finished requests and, by elapsed time, those that the client gave up on."""

    finished: Bins
    cancelled: Bins

    def above(self, threshold: int) -> tuple[int, int]:
        """Requests that count at this threshold, and those above it.

        A request cancelled below the threshold says nothing; cancelled above it, it was slow.
        """
        given_up = sum(count for index, count in self.cancelled.items() if index > threshold)
        slow = sum(count for index, count in self.finished.items() if index > threshold)
        return sum(self.finished.values()) + given_up, slow + given_up


class History:
    """Histogram of the last blocks of one arm."""

    def __init__(self) -> None:
        self._blocks: deque[Bins] = deque()
        self._bins: dict[int, int] = {}
        self.count = 0

    def add(self, bins: Bins) -> None:
        """One more block; the oldest leaves."""
        self._blocks.append(bins)
        merge_bins(self._bins, bins)
        self.count += sum(bins.values())
        if len(self._blocks) > REFERENCE_BLOCKS:
            oldest = self._blocks.popleft()
            self.count -= sum(oldest.values())
            for index, count in oldest.items():
                self._bins[index] -= count

    def quantile_bin(self, quantile: float) -> int | None:
        """The bin the quantile lies in; None while the history is too short to tell."""
        if self.count < max(MIN_REFERENCE, MIN_TAIL / (1 - quantile)):
            return None
        return self._bin_at(quantile)

    def shown_us(self, quantile: float) -> float | None:
        """The quantile to show, however short the history; None while it is empty."""
        return upper_edge_us(self._bin_at(quantile)) if self.count else None

    def _bin_at(self, quantile: float) -> int:
        seen = 0
        for index in sorted(self._bins):
            seen += self._bins[index]
            if seen >= quantile * self.count:
                return index
        raise AssertionError("the counts of all bins sum to the count of the history")


class _Quantile:
    """One quantile: evidence that it is worse, and that it is not, at each margin."""

    def __init__(self, quantile: float, margin: float) -> None:
        self.quantile = quantile
        self.worse = FixedShare(len(_LOG_BETS))
        self.mirrors = tuple(FixedShare(len(_LOG_MIRROR_BETS)) for _ in MARGIN_FACTORS)
        self._margins = tuple(margin_bins(factor * margin) for factor in MARGIN_FACTORS)
        self.seen = 0

    def absorb(self, threshold: int, candidate: ArmLatency, control: ArmLatency) -> None:
        control_table = control.above(threshold)
        for mirror, margin in zip(self.mirrors, self._margins, strict=True):
            table = Table(*candidate.above(threshold + margin), *control_table)
            tests = [(_LOG_MIRROR_BETS, 0.0)]
            if margin == self._margins[-1] and mirror is self.mirrors[-1]:
                tests.append((_LOG_BETS, 0.0))
                self.seen += table.candidate
            ratios = log_odds_ratios_many(table, tuple(tests))
            mirror.absorb(ratios[0])
            if len(ratios) > 1:
                self.worse.absorb(ratios[1])


class LatencyTest:
    """All quantiles of one duration: the whole answer, or its first byte."""

    def __init__(self, check: LatencyCheck) -> None:
        self._quantiles = tuple(_Quantile(one, check.margin) for one in check.quantiles)
        self._reference = History()
        self._candidate = History()
        self._control = History()
        self._paces = tuple(Pace() for _ in MARGIN_FACTORS)
        self._candidate_count = self._control_count = 0

    def learn(self, control: ArmLatency) -> None:
        """A block that is not compared still tells how fast the control is."""
        self._reference.add(control.finished)

    def absorb(self, candidate: ArmLatency, control: ArmLatency) -> None:
        """One block; the threshold comes from the blocks before it."""
        for one in self._quantiles:
            threshold = self._reference.quantile_bin(one.quantile)
            if threshold is not None:
                one.absorb(threshold, candidate, control)
        self._reference.add(control.finished)
        self._candidate.add(candidate.finished)
        self._control.add(control.finished)
        self._candidate_count += sum(candidate.finished.values())
        self._control_count += sum(control.finished.values())
        for index, pace in enumerate(self._paces):
            pace.observe(self._mirrored(index), self._candidate_count)

    @property
    def log_value(self) -> float:
        """Evidence that the candidate is slower: the mean over the quantiles."""
        return log_mean(*(one.worse.log_value for one in self._quantiles))

    def _mirrored(self, index: int) -> float:
        """All quantiles must be proved: the weakest speaks (intersection-union)."""
        return min(one.mirrors[index].log_value for one in self._quantiles)

    def result(self, level: int, log_goal: float) -> CheckResult:
        """The numbers so far; values and effect at the quantile with the strongest evidence."""
        index = MARGIN_FACTORS.index(PROOFS[level].margin_factor)
        mirrored = self._mirrored(index)
        worst = max(self._quantiles, key=lambda one: one.worse.log_value).quantile
        candidate, control = self._candidate.shown_us(worst), self._control.shown_us(worst)
        return CheckResult(
            candidate_count=self._candidate_count,
            control_count=self._control_count,
            candidate_value=candidate,
            control_value=control,
            effect=candidate / control - 1 if candidate and control else None,
            e_value=e_value(self.log_value),
            noninferiority_e_value=e_value(mirrored),
            still_needed=self._paces[index].needed(mirrored, self._candidate_count, log_goal),
            quantile=worst,
        )


def margin_bins(margin: float) -> int:
    """A relative margin in bins: 10 % is five."""
    return round(log(1 + margin) / log(LATENCY_BIN_RATIO))


def upper_edge_us(index: int) -> float:
    """Where a bin ends, in microseconds."""
    return float(LATENCY_FIRST_EDGE_US * LATENCY_BIN_RATIO ** (index + 1))
