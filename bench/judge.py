"""The real judge on simulated releases, seeds fixed: false alarms, requests to a decision, cost.

Poisson arrivals at 50 requests/s, blocks of 5 s, a look at every block, alpha and beta 5 %, errors
and latency judged unless a row says otherwise. Beside the requests to a rollback stands the least
that any sequential test could need, log(1/alpha) over the Kullback-Leibler divergence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, log
from statistics import median
from time import process_time

import numpy as np

from agent.judge import Judge, Verdict
from agent.policy import Checks, Policy, RateCheck
from agent.windows import ArmBlock, Block
from bench.report import Measured, write
from mlops.contracts.evidence import BIN_RATIO, LATENCY_FIRST_EDGE_US

ALPHA = 0.05
BLOCK_S = 5
HOUR = 720
BOTH = Policy(grace_s=0)
ERRORS = replace(BOTH, checks=Checks(errors=RateCheck(), latency=None))


@dataclass(frozen=True, kw_only=True)
class Traffic:
    candidate: float = 0.01
    control: float = 0.01
    slowdown: float = 1.0
    share: float = 0.1
    rate: float = 50.0
    latencies: bool = False


def arm(rng: np.random.Generator, mean: float, errors: float, median_us: float | None) -> ArmBlock:
    count = int(rng.poisson(mean))
    bins: dict[int, int] = {}
    if median_us is not None:
        took = median_us * np.exp(0.6 * rng.standard_normal(count))
        found = np.log(took / LATENCY_FIRST_EDGE_US) / np.log(BIN_RATIO)
        values, counts = np.unique(found.astype(int), return_counts=True)
        bins = dict(zip(values.tolist(), counts.tolist(), strict=True))
    bad = int(rng.binomial(count, errors))
    return ArmBlock(rows=count, answered=count, requests=count, errors=bad, latency_bins=bins)


def block_of(rng: np.random.Generator, index: int, now: Traffic) -> Block:
    mean = now.rate * BLOCK_S
    took_us = 80_000.0 if now.latencies else None
    slow_us = None if took_us is None else took_us * now.slowdown
    share_bp = round(now.share * 10_000)
    return Block(
        start_second=index * BLOCK_S,
        seconds=BLOCK_S,
        generation=share_bp,
        share_bp=share_bp,
        candidate=arm(rng, mean * now.share, now.candidate, slow_us),
        control=arm(rng, mean * (1 - now.share), now.control, took_us),
    )


def release(
    seed: int, traffic: Callable[[int], Traffic], policy: Policy, until: Verdict, blocks: int
) -> tuple[Verdict, float]:
    """The verdict that ended it and the candidate's requests until then."""
    rng = np.random.default_rng(seed)
    judge = Judge(policy, alpha=ALPHA)
    requests = 0
    for index in range(blocks):
        block = block_of(rng, index, traffic(index))
        judge.absorb(replace(block, guard_only=True))
        judge.absorb(block)
        requests += block.candidate.requests
        verdict = judge.judgement().verdict
        if verdict in {until, Verdict.REGRESSED}:
            return verdict, requests
    return Verdict.UNDECIDED, inf


def ramp(index: int) -> Traffic:
    """Weights go up as the error rate of both rises fourfold."""
    rate = 0.005 + 0.015 * index / HOUR
    share = (0.05, 0.1, 0.25, 0.5)[index * 4 // HOUR]
    return Traffic(candidate=rate, control=rate, share=share)


def false_alarms(name: str, traffic: Callable[[int], Traffic], runs: int) -> Measured:
    verdicts = [release(s, traffic, ERRORS, Verdict.REGRESSED, HOUR)[0] for s in range(runs)]
    share = sum(verdict is Verdict.REGRESSED for verdict in verdicts) / runs
    return Measured(
        name=f"{name}, {runs} runs of 1 h",
        value=100 * share,
        unit="%",
        goal="<= 5 %",
        holds=share <= 0.05,
    )


def wrongly_promoted(runs: int) -> Measured:
    worse = Traffic(candidate=0.01, control=0.005, share=0.5)
    verdicts = [release(s, lambda _: worse, ERRORS, Verdict.HEALTHY, 200)[0] for s in range(runs)]
    share = sum(verdict is Verdict.HEALTHY for verdict in verdicts) / runs
    return Measured(
        name=f"promotes at the margin, {runs} runs",
        value=100 * share,
        unit="%",
        goal="<= 5 %",
        holds=share <= 0.05,
    )


def to_rollback(name: str, now: Traffic, policy: Policy, runs: int, goal: float) -> Measured:
    took = [release(s, lambda _: now, policy, Verdict.REGRESSED, HOUR)[1] for s in range(runs)]
    limits = {} if now.slowdown != 1 else {"limit": least_requests(now)}
    return Measured(
        name=f"{name}: rolled back, {runs} runs",
        value=median(took),
        unit="candidate requests",
        goal=f"<= {goal:g}",
        holds=median(took) <= goal,
        peers=limits,
    )


def to_promotion(name: str, now: Traffic, policy: Policy, runs: int) -> Measured:
    took = [release(s, lambda _: now, policy, Verdict.HEALTHY, HOUR)[1] for s in range(runs)]
    return Measured(
        name=f"{name}: promoted, {runs} runs", value=median(took), unit="candidate requests"
    )


def least_requests(now: Traffic) -> float:
    pooled = now.share * now.candidate + (1 - now.share) * now.control
    others = (1 - now.share) / now.share * divergence(now.control, pooled)
    return -log(ALPHA) / (divergence(now.candidate, pooled) + others)


def divergence(p: float, q: float) -> float:
    """Kullback-Leibler, of two Bernoulli laws."""
    return sum(a * log(a / b) for a, b in ((p, q), (1 - p, 1 - q)) if a > 0)


def cost(rate: float) -> Measured:
    rng = np.random.default_rng(1)
    now = Traffic(share=0.25, rate=rate, latencies=True)
    blocks = [block_of(rng, index, now) for index in range(100)]
    judge = Judge(BOTH, alpha=ALPHA)
    started = process_time()
    for block in blocks:
        judge.absorb(block)
        judge.judgement()
    spent_ms = 1000 * (process_time() - started) / len(blocks)
    return Measured(
        name=f"CPU of a block at {rate:g} requests/s",
        value=spent_ms,
        unit="ms",
        goal="<= 10 ms",
        holds=spent_ms <= 10,
    )


def main() -> None:
    same = Traffic(share=0.5)
    clean = Traffic(share=0.5, candidate=0, control=0)
    slow = Traffic(slowdown=1.3, latencies=True)
    write(
        "judge",
        [
            false_alarms("false rollback, equal arms", lambda _: Traffic(), 40),
            false_alarms("false rollback, ramp and rising errors", ramp, 40),
            wrongly_promoted(200),
            to_rollback("errors 1 -> 2 %", Traffic(candidate=0.02), ERRORS, 40, 2500),
            to_rollback("errors 1 -> 5 %", Traffic(candidate=0.05), ERRORS, 200, 200),
            to_rollback("errors 1 -> 100 %", Traffic(candidate=1.0), BOTH, 100, 40),
            to_rollback("latency +30 %", slow, BOTH, 30, 500),
            to_promotion("equal, errors 1 %, half the traffic", same, ERRORS, 60),
            to_promotion("equal, no errors, half the traffic", clean, ERRORS, 60),
            to_promotion("equal, errors and latency", replace(same, latencies=True), BOTH, 20),
            cost(50),
            cost(5000),
        ],
        {"numpy": np.__version__},
    )


if __name__ == "__main__":
    main()
