"""All tests of a policy together, for any number of runs at once: the judge's whole state.

The first axis of every array is the run. One release is a panel of one run; a benchmark simulates
thousands through the same code.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log

import numpy as np
from numpy.typing import NDArray

from agent.judge.counts import QUANTILE_BINS, RATE_COUNTS, ROW_SCORE, ArmCounts, BlockCounts
from agent.judge.dispersion import Dispersion
from agent.judge.eprocess import Floats, Table, log_goal, log_mean
from agent.judge.proof import MARGIN_FACTORS
from agent.judge.quantiles import Bins, TailTest
from agent.judge.rates import RateTest, guard, hanging
from agent.judge.scores import ScoreTest
from agent.judge.trust import SampleRatioTest
from agent.policy import Checks, Direction, Policy, QuantileCheck, RateCheck
from mlops.contracts.evidence import BIN_RATIO, LAST_BIN, SCORE_BINS

GUARD_WEIGHT = 0.08
"""The guard's part of alpha, and the part of answers that never end."""
HANGING_WEIGHT = 0.02
CHECKS_WEIGHT = 1 - GUARD_WEIGHT - HANGING_WEIGHT
"""What the checks share evenly."""
SUSPICIOUS_E_VALUE = 5.0
"""Too little to go back, too much to go on."""

Bools = NDArray[np.bool_]


class QuantileTest:
    """One quantile check: up, down, or both ways at once."""

    def __init__(self, check: QuantileCheck, shape: tuple[int, int], *, cancelled: bool) -> None:
        margins = [margin_bins(factor * check.margin) for factor in MARGIN_FACTORS]
        self.direction = check.direction
        self.counts_cancelled = cancelled
        """Whether the time until the client gave up is known of what is measured."""
        self.sides = tuple(
            (side, TailTest(check.quantiles, margins, shape))
            for side in (Direction.UP, Direction.DOWN)
            if check.direction in (side, Direction.BOTH)
        )

    def learn(self, control: Bins) -> None:
        for side, test in self.sides:
            test.learn(control if side is Direction.UP else control.reversed())

    def absorb(self, candidate: Bins, control: Bins, compare: Bools) -> None:
        for side, test in self.sides:
            if side is Direction.UP:
                test.absorb(candidate, control, compare)
            else:
                test.absorb(candidate.reversed(), control.reversed(), compare)

    @property
    def log_value(self) -> Floats:
        return log_mean(np.stack([test.log_value for _, test in self.sides]), axis=0)

    def log_mirror(self, level: int) -> Floats:
        return np.asarray(np.min([test.log_mirror(level) for _, test in self.sides], axis=0))

    def worst(self) -> float:
        """Of the first run, the quantile with the strongest evidence (from below)."""
        side, test = max(self.sides, key=lambda one: float(one[1].log_value[0]))
        quantile = test.worst()
        return quantile if side is Direction.UP else 1 - quantile


class Panel:
    """Every check of the policy, the guards, and the sample ratio."""

    def __init__(self, policy: Policy, runs: int = 1, bins: int = LAST_BIN + 1) -> None:
        """`bins` is the length of every histogram but that of scores."""
        checks = policy.checks
        self.runs = runs
        self._policy = policy
        self.guard = guard(runs)
        self.hanging = hanging(runs)
        self.sample_ratio = SampleRatioTest(policy.sample_ratio_tolerance, runs)
        self.dispersion = Dispersion(runs)
        self.rates = {name: RateTest(check, runs) for name, check in rate_checks(checks).items()}
        self.quantiles = {
            name: QuantileTest(check, (runs, bins), cancelled=name == "latency")
            for name, check in quantile_checks(checks).items()
        }
        score = checks.score
        self.score_field = score.field if score and score.comparable else None
        self.score = ScoreTest(score, runs, SCORE_BINS) if score and self.score_field else None
        self._first_second = np.full(runs, np.inf)
        """Of the candidate's first request."""

    @property
    def histograms(self) -> tuple[str, ...]:
        """The histograms that the checks are about."""
        names = {QUANTILE_BINS[name] for name in self.quantiles}
        cancelled = {"cancelled_bins"} if "latency" in self.quantiles else set()
        return tuple(sorted(names | cancelled))

    # ---- feeding -------------------------------------------------------------------------------

    def look(self, candidate: ArmCounts, control: ArmCounts, second: int) -> None:
        """One second, for the guard alone."""
        self._note_first(candidate, second)
        self.guard.absorb(_table("errors", candidate, control))

    def absorb(self, block: BlockCounts) -> None:
        """One block, in the order of the log. The guard has seen its seconds already."""
        self._note_first(block.candidate, block.start_second)
        grown = self._is_grown(block.start_second)
        compare = block.settled & grown
        candidate, control = block.candidate, block.control
        ended = (candidate.ended, control.ended)
        self.sample_ratio.learn(candidate.request_groups, control.request_groups)
        self.sample_ratio.absorb(ended, block.share_bp, block.settled)
        for name, rate in self.rates.items():
            rate.absorb(_table(name, candidate, control), compare, self.dispersion.phi)
        self.dispersion.learn(control.error_groups, control.request_groups)
        self._absorb_quantiles(candidate, control, compare)
        # A late score arrives long after its answer: when its block began does not bias it.
        self._absorb_score(candidate, control, compare if self.score_field == ROW_SCORE else grown)
        self._absorb_hanging(candidate, control, compare)

    def is_compared(self, block: BlockCounts) -> Bools:
        """By run: is the grace over, and has the weight settled?"""
        self._note_first(block.candidate, block.start_second)
        return block.settled & self._is_grown(block.start_second)

    def _is_grown(self, second: int) -> Bools:
        return np.asarray(second >= self._first_second + self._policy.grace_s)

    def _note_first(self, candidate: ArmCounts, second: int) -> None:
        begun = np.where(candidate.ended > 0, second, self._first_second)
        self._first_second = np.minimum(self._first_second, begun)

    def _absorb_quantiles(self, candidate: ArmCounts, control: ArmCounts, compare: Bools) -> None:
        for name, test in self.quantiles.items():
            column = QUANTILE_BINS[name]
            if column not in control.bins:
                continue
            gone = "cancelled_bins" if test.counts_cancelled else ""
            mine = Bins(candidate.bins[column], candidate.bins.get(gone))
            others = Bins(control.bins[column], control.bins.get(gone))
            if compare.any():
                test.absorb(mine, others, compare)
            else:
                test.learn(others)

    def _absorb_score(self, candidate: ArmCounts, control: ArmCounts, compare: Bools) -> None:
        mine, others = candidate.bins.get("score_bins"), control.bins.get("score_bins")
        if self.score is None or mine is None or others is None:
            return
        if compare.any():
            self.score.absorb(mine, others, compare)
        else:
            self.score.learn(others)

    def _absorb_hanging(self, candidate: ArmCounts, control: ArmCounts, compare: Bools) -> None:
        if "hanging" not in candidate.counts or "hanging" not in control.counts:
            return
        columns = _table("hanging", candidate, control)
        if np.any(columns.candidate_bad) or np.any(columns.control_bad):
            self.hanging.absorb(Table(*(np.asarray(one) * compare for one in columns)))

    # ---- what it says --------------------------------------------------------------------------

    @property
    def checks(self) -> Mapping[str, RateTest | QuantileTest | ScoreTest]:
        """Every check by its name in the policy."""
        score = {} if self.score is None else {"score": self.score}
        return {**self.rates, **self.quantiles, **score}

    def log_parts(self) -> dict[str, Floats]:
        """log(w E) of each part, by run; a rate counts only while its rise is one that matters."""
        checks = self.checks
        parts = {
            "guard": log(GUARD_WEIGHT) + self.guard.log_value,
            "hanging": log(HANGING_WEIGHT) + self.hanging.log_value,
        }
        for name, check in checks.items():
            value = log(CHECKS_WEIGHT / len(checks)) + check.log_value
            if isinstance(check, RateTest):
                value = np.where(check.matters, value, -np.inf)
            parts[name] = value
        return parts

    def log_total(self) -> Floats:
        """The evidence against the candidate, all parts together."""
        parts = np.stack(list(self.log_parts().values()))
        return log_mean(parts, np.ones((len(parts), 1)), axis=0)

    def is_regressed(self, alpha: float) -> Bools:
        """By run."""
        return self.log_total() >= log_goal(alpha)

    def is_suspicious(self) -> Bools:
        """Enough against it to go no further."""
        each = [check.log_value for check in self.checks.values()]
        each += [self.guard.log_value, self.hanging.log_value]
        return np.asarray(np.max(each, axis=0) >= log(SUSPICIOUS_E_VALUE))

    def is_proved(self, level: int) -> Bools:
        """Every check refuted its margin at this level."""
        if not self.checks:
            return np.zeros(self.runs, bool)
        mirrors = [check.log_mirror(level) for check in self.checks.values()]
        return np.asarray(np.min(mirrors, axis=0) >= log_goal(self._policy.beta))


def rate_checks(checks: Checks) -> dict[str, RateCheck]:
    """Those that the policy lists, by name."""
    listed = {name: getattr(checks, name) for name in RATE_COUNTS}
    return {name: check for name, check in listed.items() if check is not None}


def quantile_checks(checks: Checks) -> dict[str, QuantileCheck]:
    """Those that the policy lists, by name."""
    listed = {name: getattr(checks, name) for name in QUANTILE_BINS}
    return {name: check for name, check in listed.items() if check is not None}


def margin_bins(margin: float) -> int:
    """A relative margin in bins: 10 % is five."""
    return round(log(1 + margin) / log(BIN_RATIO))


def _table(name: str, candidate: ArmCounts, control: ArmCounts) -> Table:
    bad, of = RATE_COUNTS.get(name, ("hanging", "hanging_known"))
    return Table(
        candidate.counts[of], candidate.counts[bad], control.counts[of], control.counts[bad]
    )
