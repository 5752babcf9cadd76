"""Traffic as blocks: Poisson arrivals, Bernoulli errors, lognormal latencies, from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from agent.judge import Judge, Judgement, Verdict
from agent.judge.counts import ArmCounts, BlockCounts
from agent.judge.eprocess import log_goal
from agent.judge.panel import Panel, rate_table
from agent.judge.proof import level_for
from agent.policy import Checks, Policy, RateCheck
from agent.windows import ArmBlock, Block
from mlops.contracts.evidence import BIN_RATIO, LATENCY_FIRST_EDGE_US

BLOCK_S = 5
ERRORS_ONLY = Policy(grace_s=0, checks=Checks(errors=RateCheck(), latency=None))


@dataclass(frozen=True, kw_only=True)
class Arm:
    error_rate: float = 0.01
    slowdown: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Traffic:
    candidate: Arm = Arm()
    control: Arm = Arm()
    share_bp: int = 1000
    rate: float = 50.0
    latencies: bool = False

    def block(self, rng: np.random.Generator, index: int) -> Block:
        share = self.share_bp / 10_000
        requests = self.rate * BLOCK_S
        return Block(
            start_second=index * BLOCK_S,
            seconds=BLOCK_S,
            generation=self.share_bp,
            share_bp=self.share_bp,
            candidate=self._arm(rng, self.candidate, requests * share),
            control=self._arm(rng, self.control, requests * (1 - share)),
        )

    def _arm(self, rng: np.random.Generator, arm: Arm, mean: float) -> ArmBlock:
        count = int(rng.poisson(mean))
        bins: dict[int, int] = {}
        if self.latencies:
            took_us = 80_000 * arm.slowdown * np.exp(0.6 * rng.standard_normal(count))
            found = np.log(took_us / LATENCY_FIRST_EDGE_US) / np.log(BIN_RATIO)
            values, counts = np.unique(found.astype(int), return_counts=True)
            bins = dict(zip(values.tolist(), counts.tolist(), strict=True))
        return ArmBlock(
            rows=count,
            answered=count,
            requests=count,
            errors=int(rng.binomial(count, arm.error_rate)),
            latency_bins=bins,
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    judgement: Judgement
    blocks: int
    candidate_requests: int

    @property
    def verdict(self) -> Verdict:
        return self.judgement.verdict


Simulate = Callable[..., Run]


@pytest.fixture
def traffic() -> Callable[..., Traffic]:
    """Traffic by the error rates of both arms and the candidate's slowdown."""

    def make(
        *, candidate: float = 0.01, control: float = 0.01, slowdown: float = 1.0, **changes: Any
    ) -> Traffic:
        return Traffic(
            candidate=Arm(error_rate=candidate, slowdown=slowdown),
            control=Arm(error_rate=control),
            **changes,
        )

    return make


@pytest.fixture
def simulate() -> Simulate:
    """Feed blocks until one of the verdicts comes, or they run out."""

    def run(
        seed: int,
        traffic: Traffic | Callable[[int], Traffic],
        *,
        until: tuple[Verdict, ...],
        policy: Policy = ERRORS_ONLY,
        alpha: float = 0.05,
        blocks: int = 720,
    ) -> Run:
        rng = np.random.default_rng(seed)
        judge = Judge(policy, alpha=alpha)
        requests = 0
        for index in range(blocks):
            now = traffic if isinstance(traffic, Traffic) else traffic(index)
            block = now.block(rng, index)
            feed(judge, block)
            requests += block.candidate.requests
            judgement = judge.judgement()
            if judgement.verdict in until:
                break
        return Run(judgement=judgement, blocks=index + 1, candidate_requests=requests)

    return run


def feed(judge: Judge, block: Block) -> None:
    """The guard's look and the block, as the cutter gives them."""
    judge.absorb(
        Block(
            start_second=block.start_second,
            seconds=block.seconds,
            generation=block.generation,
            share_bp=block.share_bp,
            guard_only=True,
            candidate=block.candidate,
            control=block.control,
        )
    )
    judge.absorb(block)


@dataclass(frozen=True)
class Ever:
    """What was ever said of each run."""

    regressed: np.ndarray
    healthy: np.ndarray
    invalid: np.ndarray


@pytest.fixture
def fleet() -> Callable[..., Ever]:
    """Many releases at once through the judge's own state: errors only, a look at every block."""

    def run(
        traffic: Traffic | Callable[[int], Traffic],
        *,
        runs: int,
        blocks: int,
        policy: Policy = ERRORS_ONLY,
        alpha: float = 0.05,
    ) -> Ever:
        rng = np.random.default_rng(1)
        panel = Panel(policy, runs)
        ever = Ever(*(np.zeros(runs, bool) for _ in range(3)))
        for index in range(blocks):
            now = traffic if isinstance(traffic, Traffic) else traffic(index)
            share = np.full(runs, now.share_bp)
            block = BlockCounts(
                candidate=counted(rng, now.candidate, now.rate * BLOCK_S * share / 10_000),
                control=counted(rng, now.control, now.rate * BLOCK_S * (1 - share / 10_000)),
                share_bp=share,
                settled=np.ones(runs, bool),
                start_second=index * BLOCK_S,
            )
            panel.look(rate_table("errors", block.candidate, block.control))
            panel.absorb(block)
            ever.invalid[:] |= panel.sample_ratio.is_violated
            ever.regressed[:] |= panel.log_total() >= log_goal(alpha)
            proved = panel.is_proved(level_for(now.share_bp, policy))
            ever.healthy[:] |= proved & ~panel.is_suspicious() & ~ever.regressed
        return ever

    return run


def counted(rng: np.random.Generator, arm: Arm, mean: np.ndarray) -> ArmCounts:
    requests = rng.poisson(mean)
    errors = rng.binomial(requests, arm.error_rate)
    return ArmCounts(ended=requests, counts={"requests": requests, "errors": errors})
