"""Simulated traffic as the judge's counts: many releases at once, the run is the first axis.

Poisson arrivals, Bernoulli outcomes, lognormal durations, Beta scores; a scenario says how both
arms change over the hour. Seeds are fixed: the same call gives the same figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.judge.counts import QUANTILE_BINS, RATE_COUNTS, ArmCounts, BlockCounts
from mlops.contracts.evidence import BIN_RATIO, KEY_GROUPS, SCORE_BINS

BLOCK_S = 5
BINS = 420
"""Of the histograms of durations: the median lies at bin 200, five standard deviations fit."""
MEDIAN_BIN = 200.0
SIGMA_BINS = 0.6 / np.log(BIN_RATIO)
"""p99 is four times the median."""
PODS = 9

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Course = Callable[[float], float]
"""A rate, or a factor, by the second since the release began."""


@dataclass(frozen=True)
class Constant:
    """The same at every second."""

    value: float

    def __call__(self, second: float) -> float:
        return self.value


ONE_PERCENT = Constant(0.01)
UNCHANGED = Constant(1.0)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """How one arm behaves."""

    errors: Course = ONE_PERCENT
    burst: int = 1
    """Errors of one key that come together; the mean rate stays."""
    slowdown: float = 1.0
    slow_part: float = 0.0
    slow_factor: float = 5.0
    """A few requests that are far slower."""
    score_fall: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Both arms, and what they share."""

    candidate: Arm = field(default_factory=Arm)
    control: Arm = field(default_factory=Arm)
    rate: float = 50.0
    day: Course = UNCHANGED
    """Factor on durations of both arms."""
    pod_spread: float = 0.0
    """Standard deviation of the logarithm of a pod's speed; the candidate is one pod."""
    users: int = 0
    """Sticky users of unequal weight; 0: every request has a key of its own."""
    truth: float = 1.0
    """Odds of the split that really happens over those asked for."""
    checks: tuple[str, ...] = ("errors",)
    """What the policy judges, so what must be drawn."""

    def runs(self, seed: int, runs: int) -> Draws:
        """The random part that stays with each run."""
        return Draws(self, np.random.default_rng(seed), runs)


class Draws:
    """The traffic of many runs, block by block."""

    def __init__(self, traffic: Traffic, rng: np.random.Generator, runs: int) -> None:
        self.traffic, self._rng, self._runs = traffic, rng, runs
        spread = traffic.pod_spread / np.log(BIN_RATIO)
        self._pods = rng.normal(0.0, 1.0, (runs, PODS + 1)) * spread
        """Bins by which each pod is slower; the last one is the candidate's."""
        self._users = _users(rng, runs, traffic.users) if traffic.users else None

    def block(self, index: int, share_bp: Ints, settled: NDArray[np.bool_]) -> BlockCounts:
        """Five seconds in which the candidate was to get these shares."""
        second = index * BLOCK_S
        asked = share_bp / 10_000
        odds = self.traffic.truth * asked / np.maximum(1e-9, 1 - asked)
        share = odds / (1 + odds)
        groups = self._arrivals(asked if self.traffic.users else share)
        return BlockCounts(
            candidate=self._arm(self.traffic.candidate, groups[0], second, is_candidate=True),
            control=self._arm(self.traffic.control, groups[1], second, is_candidate=False),
            share_bp=share_bp,
            settled=settled,
            start_second=second,
        )

    def _arrivals(self, share: Floats) -> tuple[Ints, Ints]:
        """Requests of both arms by group of keys."""
        mean = self.traffic.rate * BLOCK_S
        if self._users is None:
            each = np.broadcast_to(mean * share[:, None] / KEY_GROUPS, (self._runs, KEY_GROUPS))
            rest = np.broadcast_to(mean * (1 - share[:, None]) / KEY_GROUPS, each.shape)
            return self._rng.poisson(each), self._rng.poisson(rest)
        weights, buckets = self._users
        count = self._rng.poisson(mean * weights)
        is_candidate = buckets < share[:, None] * 10_000
        arms = []
        for mask in (is_candidate, ~is_candidate):
            groups = np.zeros((self._runs, KEY_GROUPS), np.int64)
            rows = np.arange(self._runs)[:, None]
            np.add.at(groups, (rows, buckets % KEY_GROUPS), count * mask)
            arms.append(groups)
        return arms[0], arms[1]

    def _arm(self, arm: Arm, groups: Ints, second: int, *, is_candidate: bool) -> ArmCounts:
        errors, groups = self._errors(arm, groups, second)
        count = groups.sum(axis=1)
        counts: dict[str, Ints] = {
            "requests": count,
            "errors": errors.sum(axis=1),
            "hanging": np.zeros_like(count),
            "hanging_known": count,
        }
        for name, (bad, of) in RATE_COUNTS.items():  # in one order: the seed must tell all
            if name == "errors" or name not in self.traffic.checks:
                continue
            counts[of] = count
            counts[bad] = self._rng.binomial(count, 0.02)
        return ArmCounts(
            ended=count,
            counts=counts,
            bins=self._histograms(arm, count, second, is_candidate=is_candidate),
            request_groups=groups,
            error_groups=errors,
        )

    def _errors(self, arm: Arm, groups: Ints, second: int) -> tuple[Ints, Ints]:
        """Errors by group of keys, and requests: all of a burst have one key."""
        rate = min(1.0, arm.errors(second))
        if arm.burst == 1:
            return self._rng.binomial(groups, rate), groups
        bursts = self._rng.binomial(groups.sum(axis=1), rate / arm.burst)
        even = np.full(KEY_GROUPS, 1 / KEY_GROUPS)
        errors = arm.burst * self._rng.multinomial(bursts, even)
        return errors, np.maximum(groups, errors)

    def _histograms(
        self, arm: Arm, count: Ints, second: int, *, is_candidate: bool
    ) -> Mapping[str, Ints]:
        found: dict[str, Ints] = {}
        run = np.repeat(np.arange(self._runs), count)
        shift = np.log(self.traffic.day(second) * arm.slowdown) / np.log(BIN_RATIO)
        for name, column in QUANTILE_BINS.items():
            if name not in self.traffic.checks:
                continue
            at = MEDIAN_BIN + SIGMA_BINS * self._rng.standard_normal(len(run))
            if name in {"latency", "ttft", "first_event"}:
                at += shift + self._slow_pod(run, is_candidate=is_candidate)
                if arm.slow_part:
                    slow = self._rng.random(len(run)) < arm.slow_part
                    at[slow] += np.log(arm.slow_factor) / np.log(BIN_RATIO)
            found[column] = _histogram(run, at, self._runs, BINS)
        if "score" in self.traffic.checks:
            score = self._rng.beta(8, 2, len(run)) - arm.score_fall
            score -= 0.1 * (self.traffic.day(second) - 1)
            at = np.clip(score, 0, 1) * SCORE_BINS
            found["score_bins"] = _histogram(run, at, self._runs, SCORE_BINS)
        return found

    def _slow_pod(self, run: Ints, *, is_candidate: bool) -> Floats:
        if not self.traffic.pod_spread:
            return np.zeros(1)
        pod = np.full(len(run), PODS) if is_candidate else self._rng.integers(0, PODS, len(run))
        return np.asarray(self._pods[run, pod])


def _histogram(run: Ints, at: Floats, runs: int, bins: int) -> Ints:
    index = run * bins + np.clip(at, 0, bins - 1).astype(np.int64)
    return np.bincount(index, minlength=runs * bins).reshape(runs, bins)


def _users(rng: np.random.Generator, runs: int, users: int) -> tuple[Floats, Ints]:
    """Weights that differ by a factor of ten and more, and the bucket of each user's key."""
    weights = rng.lognormal(0.0, 1.0, (runs, users))
    return weights / weights.sum(axis=1, keepdims=True), rng.integers(0, 10_000, (runs, users))
