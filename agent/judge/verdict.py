"""What the judge says, with its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from math import isfinite


class Verdict(Enum):
    """The four things evidence can say."""

    HEALTHY = "healthy"
    """Every check has proved the candidate not worse than the margin."""
    REGRESSED = "regressed"
    """The candidate is worse; a harmless one comes here with chance alpha at most, ever."""
    UNDECIDED = "undecided"
    """Too little evidence. Neither a pass nor a failure."""
    INVALID = "invalid"
    """The evidence cannot be trusted. Never a reason to roll back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check so far, after the grace."""

    candidate_count: int
    control_count: int
    candidate_value: float | None
    """Rate, mean score, or the quantile in its own unit (microseconds, characters, tokens); None
    without data."""
    control_value: float | None
    effect: float | None
    """Candidate against control: a difference, for quantiles a relative one (0.1: 10 % more)."""
    interval: tuple[float, float] | None = None
    """Of the effect, at every look with chance 1 - alpha; None while nothing is excluded."""
    e_value: float
    """Evidence that it is worse: 1 means none."""
    noninferiority_e_value: float
    """Evidence that it is not worse than this step's margin."""
    still_needed: int | None
    """Candidate requests until that is proved, at the pace so far; None: cannot be said yet."""
    quantile: float | None = None
    """Which quantile the values are of, where they are of one."""
    candidate_bad: int | None = None
    control_bad: int | None = None
    """Of a rate: the counts behind the values."""

    @property
    def bounds(self) -> tuple[float | None, float | None] | None:
        """`interval` as JSON has it, which knows no infinity: an open end is None."""
        if self.interval is None:
            return None
        low, high = self.interval
        return low if isfinite(low) else None, high if isfinite(high) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict and why."""

    verdict: Verdict
    reasons: tuple[str, ...]
    checks: Mapping[str, CheckResult]
    e_value: float = 1.0
    """All checks and the guards combined; REGRESSED at 1/alpha."""
