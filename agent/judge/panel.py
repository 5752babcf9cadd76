"""All tests of a policy together: the judge's whole state.

The first axis of every array is the case: a benchmark simulates thousands of runs at once, and the
blocks of one release over time go through the same code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

import numpy as np
from numpy.typing import NDArray

from agent.judge.counts import QUANTILE_BINS, RATE_COUNTS, ROW_SCORE, ArmCounts, BlockCounts
from agent.judge.dispersion import Dispersion
from agent.judge.eprocess import Floats, Table, log_goal, log_mean
from agent.judge.proof import MARGIN_FACTORS
from agent.judge.quantiles import Bins, TailTest
from agent.judge.rates import RateTest, guard, hanging
from agent.judge.running import Least
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
LOG_SUSPICIOUS = log(SUSPICIOUS_E_VALUE)

Bools = NDArray[np.bool_]


class QuantileTest:
    """One quantile check: up, down, or both ways at once."""

    def __init__(
        self, check: QuantileCheck, shape: tuple[int | None, int], *, cancelled: bool
    ) -> None:
        margins = [margin_bins(factor * check.margin) for factor in MARGIN_FACTORS]
        self.direction = check.direction
        self.counts_cancelled = cancelled
        """Whether the time until the client gave up is known of what is measured."""
        self.sides = tuple(
            (side, TailTest(check.quantiles, margins, shape))
            for side in (Direction.UP, Direction.DOWN)
            if check.direction in (side, Direction.BOTH)
        )

    def absorb(self, candidate: Bins, control: Bins, compare: Bools) -> None:
        """One block (or more); see `TailTest.absorb`."""
        for side, test in self.sides:
            if side is Direction.UP:
                test.absorb(candidate, control, compare)
            else:
                test.absorb(candidate.reversed(), control.reversed(), compare)

    @property
    def log_value(self) -> Floats:
        """Evidence that it moved by more than the margin, either way where both count; by case."""
        return log_mean(np.stack([test.log_value for _, test in self.sides]), axis=0)

    def log_mirror(self, level: int) -> Floats:
        """Evidence that it did not, at this level: the weaker of the two ways."""
        return np.asarray(np.min([test.log_mirror(level) for _, test in self.sides], axis=0))

    def worst(self) -> list[float]:
        """By case, the quantile with the strongest evidence (from below)."""
        sides = np.stack([test.log_value for _, test in self.sides]).argmax(axis=0)
        found = [
            [q if side is Direction.UP else 1 - q for q in np.array(test.quantiles)[test.worst()]]
            for side, test in self.sides
        ]
        return [float(found[side][case]) for case, side in enumerate(sides)]


class Panel:
    """Every check of the policy, the guards, and the sample ratio."""

    def __init__(self, policy: Policy, runs: int | None = 1, bins: int = LAST_BIN + 1) -> None:
        """`bins` is the length of every histogram but that of scores."""
        checks = policy.checks
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
        self._first_second = Least(runs)
        """Of the candidate's first request."""
        self.compared: Bools = np.zeros(0, bool)
        """By case of the last block: was the grace over, and had the weight settled?"""

    @property
    def histograms(self) -> tuple[str, ...]:
        """The histograms that the checks are about."""
        names = {QUANTILE_BINS[name] for name in self.quantiles}
        cancelled = {"cancelled_bins"} if "latency" in self.quantiles else set()
        return tuple(sorted(names | cancelled))

    # ---- feeding -------------------------------------------------------------------------------

    def look(self, table: Table) -> None:
        """One second (or more), for the guard alone."""
        self.guard.absorb(table)

    def absorb(self, block: BlockCounts) -> None:
        """One block (or more), in the order of the log. The guard has seen its seconds already."""
        candidate, control = block.candidate, block.control
        begun = np.where(candidate.ended > 0, block.start_second, np.inf)
        is_grown = block.start_second >= self._first_second.push(begun) + self._policy.grace_s
        compare = self.compared = block.settled & is_grown
        ended = (candidate.ended, control.ended)
        self.sample_ratio.learn(candidate.request_groups, control.request_groups)
        self.sample_ratio.absorb(ended, block.share_bp, block.settled)
        phi = self.dispersion.learn(control.error_groups, control.request_groups)
        for name, rate in self.rates.items():
            rate.absorb(rate_table(name, candidate, control), compare, phi)
        self._absorb_quantiles(candidate, control, compare)
        # A late score arrives long after its answer: when its block began does not bias it.
        self._absorb_score(
            candidate, control, compare if self.score_field == ROW_SCORE else is_grown
        )
        if "hanging" in candidate.counts and "hanging" in control.counts:
            columns = rate_table("hanging", candidate, control)
            self.hanging.absorb(Table(*(np.asarray(one) * compare for one in columns)))

    def _absorb_quantiles(self, candidate: ArmCounts, control: ArmCounts, compare: Bools) -> None:
        for name, test in self.quantiles.items():
            column = QUANTILE_BINS[name]
            if column not in control.bins:
                continue
            gone = "cancelled_bins" if test.counts_cancelled else ""
            mine = Bins(candidate.bins[column], candidate.bins.get(gone))
            others = Bins(control.bins[column], control.bins.get(gone))
            test.absorb(mine, others, compare)

    def _absorb_score(self, candidate: ArmCounts, control: ArmCounts, compare: Bools) -> None:
        mine, others = candidate.bins.get("score_bins"), control.bins.get("score_bins")
        if self.score is not None and mine is not None and others is not None:
            self.score.absorb(mine, others, compare)

    # ---- what it says --------------------------------------------------------------------------

    @property
    def checks(self) -> Mapping[str, RateTest | QuantileTest | ScoreTest]:
        """Every check by its name in the policy."""
        score = {} if self.score is None else {"score": self.score}
        return {**self.rates, **self.quantiles, **score}

    def log_rest(self) -> dict[str, Floats]:
        """log(w E) of each part but the guard, by case.

        A rate counts only while its rise is one that matters.
        """
        checks = self.checks
        parts = {"hanging": log(HANGING_WEIGHT) + self.hanging.log_value}
        for name, check in checks.items():
            value = log(CHECKS_WEIGHT / len(checks)) + check.log_value
            if isinstance(check, RateTest):
                value = np.where(check.matters, value, -np.inf)
            parts[name] = value
        return parts

    def log_total(self) -> Floats:
        """The evidence against the candidate, all parts together, by run."""
        guard = log(GUARD_WEIGHT) + self.guard.log_value
        return log_sum([guard, *self.log_rest().values()])

    def log_most(self) -> Floats:
        """The strongest evidence of any check, by case."""
        each = [check.log_value for check in self.checks.values()]
        return np.asarray(np.max([*each, self.hanging.log_value], axis=0))

    def is_suspicious(self) -> Bools:
        """Enough against it to go no further, by run."""
        return np.maximum(self.log_most(), self.guard.log_value) >= LOG_SUSPICIOUS

    def is_proved(self, level: int) -> Bools:
        """Every check refuted its margin at this level, by case."""
        return self.are_proved([check.log_mirror(level) for check in self.checks.values()])

    def are_proved(self, log_mirrors: Sequence[Floats]) -> Bools:
        """The same where what each check says is known, of any levels."""
        if not log_mirrors:
            return np.zeros(len(self.hanging.log_value), bool)
        return np.asarray(np.min(log_mirrors, axis=0) >= log_goal(self._policy.beta))


def log_sum(log_parts: Sequence[Floats]) -> Floats:
    """log of the sum of the parts, by case."""
    return log_mean(np.stack(log_parts), np.ones((len(log_parts), 1)), axis=0)


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


def rate_table(name: str, candidate: ArmCounts, control: ArmCounts) -> Table:
    """Of a rate by its name, or of what hangs."""
    bad, of = RATE_COUNTS.get(name, ("hanging", "hanging_known"))
    return Table(
        candidate.counts[of], candidate.counts[bad], control.counts[of], control.counts[bad]
    )
