"""How others decide, on the same counts: the rule of each, as its documentation or source has it.

Counts are arrays (runs, blocks) of 5 s blocks; the answer is the block of the first alarm by run,
infinite where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, log

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from bench.traffic import Traffic

Floats = NDArray[np.float64]
MINUTE = 12
"""Blocks."""
LEAST_REQUESTS = 30
"""Of the canary, before a normal approximation is used at all."""


@dataclass(frozen=True)
class Counts:
    """Errors and requests of both arms."""

    candidate_bad: Floats
    candidate: Floats
    control_bad: Floats
    control: Floats


def counted(traffic: Traffic, shares: NDArray[np.int64], seed: int, runs: int) -> Counts:
    """The errors of a scenario at the shares given by block."""
    draws = traffic.runs(seed, runs)
    settled = np.ones(runs, bool)
    columns: list[list[Floats]] = [[], [], [], []]
    for index, share_bp in enumerate(shares):
        block = draws.block(index, np.full(runs, share_bp), settled)
        arms = (block.candidate.counts, block.control.counts)
        for at, arm in enumerate(arms):
            columns[2 * at].append(arm["errors"].astype(float))
            columns[2 * at + 1].append(arm["requests"].astype(float))
    return Counts(*(np.stack(one, axis=1) for one in columns))


def naive_z(counts: Counts, alpha: float) -> Floats:
    """A one-sided test of two proportions over everything so far, at every look."""
    mine, n, others, m = (np.cumsum(one, axis=1) for one in vars(counts).values())
    pooled = (mine + others) / (n + m)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (mine / n - others / m) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return _first((n >= LEAST_REQUESTS) & (z > norm.ppf(1 - alpha)))


def flagger(counts: Counts, least_success: float = 0.99, failed_checks: int = 5) -> Floats:
    """Each minute the canary's success rate of that minute; the fifth failed check ends it."""
    runs, blocks = counts.candidate.shape
    minutes = blocks // MINUTE
    shape = (runs, minutes, MINUTE)
    bad = counts.candidate_bad[:, : minutes * MINUTE].reshape(shape).sum(axis=2)
    count = counts.candidate[:, : minutes * MINUTE].reshape(shape).sum(axis=2)
    failed = (count == 0) | (bad > (1 - least_success) * count)
    return _first(np.cumsum(failed, axis=1) >= failed_checks) * MINUTE + (MINUTE - 1)


def kayenta(counts: Counts, confidence: float = 0.98, tolerance: float = 0.25) -> Floats:
    """Every five minutes a Mann-Whitney interval of the shift, over the points of all minutes."""
    runs, blocks = counts.candidate.shape
    minutes = blocks // MINUTE
    shape = (runs, minutes, MINUTE)
    columns = [
        one[:, : minutes * MINUTE].reshape(shape).sum(axis=2) for one in vars(counts).values()
    ]
    with np.errstate(divide="ignore", invalid="ignore"):
        mine = np.nan_to_num(columns[0] / columns[1])
        others = np.nan_to_num(columns[2] / columns[3])
    first = np.full(runs, inf)
    for end in range(5, minutes + 1, 5):
        shifts = np.sort((mine[:, :end, None] - others[:, None, :end]).reshape(runs, -1), axis=1)
        spread = norm.ppf((1 + confidence) / 2) * np.sqrt(end * end * (2 * end + 1) / 12)
        lower = shifts[:, max(0, int(end * end / 2 - spread))]
        estimate = np.median(shifts, axis=1)
        is_more = mine[:, :end].mean(axis=1) >= others[:, :end].mean(axis=1)
        high = (lower > tolerance * np.abs(estimate)) & is_more
        first = np.where(high & np.isinf(first), end * MINUTE - 1, first)
    return first


def mixture_sprt(counts: Counts, alpha: float, spread: float = 0.01) -> Floats:
    """mSPRT of the difference of proportions, pooled over the release (Johari et al. 2017)."""
    mine, n, others, m = (np.cumsum(one, axis=1) for one in vars(counts).values())
    with np.errstate(divide="ignore", invalid="ignore"):
        p, q = mine / n, others / m
        variance = p * (1 - p) / n + q * (1 - q) / m
        prior = spread**2
        evidence = 0.5 * np.log(variance / (variance + prior))
        evidence += prior * (p - q) ** 2 / (2 * variance * (variance + prior))
    return _first((n >= LEAST_REQUESTS) & (p > q) & (evidence >= -log(alpha)))


RULES: Mapping[str, Callable[[Counts, float], Floats]] = {
    "naive z at each look": naive_z,
    "Flagger 99 % x5": lambda counts, _: flagger(counts),
    "Kayenta MWU": lambda counts, _: kayenta(counts),
    "mSPRT pooled": mixture_sprt,
}


def _first(hits: NDArray[np.bool_]) -> Floats:
    return np.where(hits.any(axis=1), hits.argmax(axis=1).astype(float), inf)


def false_rates(counts: Counts, alpha: float) -> dict[str, float]:
    """Percent of the runs in which each rule alarms."""
    return {
        name: 100 * float(np.isfinite(rule(counts, alpha)).mean()) for name, rule in RULES.items()
    }


def median_requests(counts: Counts, alpha: float) -> dict[str, float]:
    """Canary requests until half of the runs have alarmed."""
    total = np.cumsum(counts.candidate, axis=1)
    found = {}
    for name, rule in RULES.items():
        at = rule(counts, alpha)
        last = np.minimum(np.where(np.isfinite(at), at, 0), total.shape[1] - 1).astype(int)
        requests = np.where(np.isfinite(at), total[np.arange(len(total)), last], inf)
        found[name] = float(np.median(requests))
    return found


def least_requests(candidate: float, control: float, share: float, alpha: float) -> float:
    """Of the canary: no sequential test of two samples decides with fewer, on average.

    log(1/alpha) over the Kullback-Leibler divergence from the nearest pair of equal rates.
    """
    pooled = share * candidate + (1 - share) * control
    others = (1 - share) / share * divergence(control, pooled)
    return -log(alpha) / (divergence(candidate, pooled) + others)


def divergence(p: float, q: float) -> float:
    """Kullback-Leibler, of two Bernoulli laws."""
    return sum(a * log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a > 0)
