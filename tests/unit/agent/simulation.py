"""Traffic in second by second, through the agent's own judge and stepper; time is a number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from msgspec.structs import replace

from agent.judge import Judgement
from agent.policy import Policy
from agent.policy_file import to_document
from agent.release import Asked, Phase, Picture, Publish, Release, Remember, Sight, Verb
from agent.standing import missing
from agent.stepper import reconcile
from agent.watch import Watch
from mlops.contracts.evidence import (
    KEY_GROUPS,
    AnsweredCounts,
    Evidence,
    ScoreCounts,
    SecondCounts,
    latency_bin,
    score_bin,
)
from mlops.contracts.plan import Arm, RoutePlan, Slot

A = Slot(version="a", endpoints=("http://127.0.0.1:8011",))
B = Slot(version="b", endpoints=("http://127.0.0.1:8012",))
START = 1_000_000


@dataclass
class Behaviour:
    """How one version answers; each may depend on the seconds since it got its first request."""

    errors: float = 0.005
    median_ms: float = 50.0
    tail: float = 0.0
    """Part of the requests that take `tail_factor` times as long."""
    tail_factor: float = 5.0
    score: float | None = None
    cold_s: float = 0.0
    """So long it is ten times slower and fails one in ten."""


@dataclass
class Simulation:
    """One gateway, one release, no crash: what only the decisions do."""

    policy: Policy
    stable: Behaviour = field(default_factory=Behaviour)
    canary: Behaviour = field(default_factory=Behaviour)
    rps: float = 200.0
    storm: tuple[int, int] = (0, 0)
    """Seconds in which a shared dependency makes three in ten of either version fail."""
    seed: int = 1

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.live = RoutePlan(route="rag", generation=1, salt="rag", stable=A)
        self.release = Release(
            id="rel-1",
            route="rag",
            candidate=B,
            policy=to_document(self.policy),
            reason="simulated",
            started_by="test",
            started_at_s=float(START),
        )
        self.second = START
        self.plans = {1: self.live}
        """By generation, what was live."""
        self.watch: Watch | None = None
        self.judgement: Judgement | None = None
        self.seen: list[Evidence] = []
        self.history: list[tuple[int, str, str]] = []
        self.promote_when_asked = False
        self._first_canary: int | None = None

    def run(self, seconds: int) -> Release:
        """Until the release has ended, at most so long."""
        for _ in range(seconds):
            self._tick()
            if self.release.phase.is_ended:
                break
        return self.release

    @property
    def elapsed_s(self) -> int:
        return self.second - START

    def missing(self) -> str:
        return missing(self.release, self.policy, self._picture())

    def _tick(self) -> None:
        evidence = self._answer()
        self.seen.append(evidence)
        self.second += 1
        if self.release.plan is not None and not self.release.phase.is_ended:
            self._judge(evidence)
        if self.promote_when_asked and "promote" in self.missing() and not self.release.asked:
            asked = Asked(verb=Verb.PROMOTE, by="ann", reason="")
            self.release = replace(self.release, asked=asked)
        for write in reconcile(self.release, self.policy, self._picture()):
            if isinstance(write, Remember):
                self.release = write.release
                if write.change is not None:
                    kind = write.change.kind.removeprefix("release.")
                    self.history.append((self.elapsed_s, kind, write.change.reason))
            elif isinstance(write, Publish):
                self.live = write.plan
                self.plans[write.plan.generation] = write.plan

    def _judge(self, evidence: Evidence) -> None:
        if self.watch is None or self.watch.phase is not self.release.phase:
            self.watch = Watch(self.release, self.policy)
        self.watch.take(evidence, frozenset())
        self.watch.absorb(self.release.shares, lambda: True)
        is_baking = self.release.phase is Phase.BAKING
        plan = self.release.plan
        assert plan is not None
        share_bp = plan.holdback_share_bp if is_baking else plan.canary_share_bp
        self.judgement = self.watch.judgement(share_bp)

    def _picture(self) -> Picture:
        sight = Sight(gateway="one", plan=self.live, lease_remaining_s=self.live.lease_s)
        return Picture(
            now_s=float(self.second),
            sights=(sight,),
            judgement=self.judgement,
            closed_through_s=float(self.second),
        )

    # ---- traffic -------------------------------------------------------------------------------

    def _answer(self) -> Evidence:
        total = int(self.random.poisson(self.rps))
        plan = self.live
        other, share_bp = Arm.CANARY, plan.canary_share_bp
        if plan.holdback_share_bp:
            other, share_bp = Arm.HOLDBACK, plan.holdback_share_bp
        split = int(self.random.binomial(total, share_bp / 10_000))
        counts = ((other, split), (Arm.STABLE, total - split))
        arms = [self._arm(arm, count) for arm, count in counts if count]
        return Evidence(
            route="rag",
            since=self.second,
            closed_through=self.second,
            seconds=tuple(seconds for seconds, _ in arms),
            scores=tuple(score for _, score in arms if score is not None),
            answered=tuple(
                AnsweredCounts(
                    second=self.second,
                    generation=plan.generation,
                    arm=seconds.arm,
                    answered=seconds.rows,
                    dropped=0,
                )
                for seconds, _ in arms
            ),
        )

    def _arm(self, arm: Arm, count: int) -> tuple[SecondCounts, ScoreCounts | None]:
        slot = self.live.slot(arm)
        behaviour = self.canary if slot == B else self.stable
        if slot == B and self._first_canary is None:
            self._first_canary = self.second
        is_cold = slot == B and self.second - (self._first_canary or 0) < behaviour.cold_s
        rate, median_ms = behaviour.errors, behaviour.median_ms
        if is_cold:
            rate, median_ms = 0.1, median_ms * 10
        if self.storm[0] <= self.elapsed_s < self.storm[1]:
            rate = 0.3
        errors = int(self.random.binomial(count, rate))
        latency_us = median_ms * 1000 * np.exp(self.random.normal(0, 0.4, count))
        latency_us[self.random.random(count) < behaviour.tail] *= behaviour.tail_factor
        groups = Counter(self.random.integers(0, KEY_GROUPS, count).tolist())
        bad = Counter(self.random.integers(0, KEY_GROUPS, errors).tolist())
        seconds = SecondCounts(
            second=self.second,
            generation=self.live.generation,
            arm=arm,
            rows=count,
            requests=count,
            errors=errors,
            latency_bins=dict(Counter(latency_bin(one) for one in latency_us)),
            request_groups=dict(groups),
            error_groups=dict(bad),
        )
        return seconds, self._score(arm, count, behaviour.score)

    def _score(self, arm: Arm, count: int, mean: float | None) -> ScoreCounts | None:
        if mean is None:
            return None
        values = np.clip(self.random.normal(mean, 0.15, count), 0, 1)
        return ScoreCounts(
            second=self.second,
            generation=self.live.generation,
            arm=arm,
            name="ndcg",
            count=count,
            total=float(values.sum()),
            total_squares=float((values * values).sum()),
            bins=dict(Counter(score_bin(one) for one in values)),
        )
