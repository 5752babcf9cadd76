"""Traffic in second by second, through the agent's own judge and stepper; time is a number.

The stepper is asked every second. The judge, which costs much less for a minute at once than for
its seconds one by one, is fed ahead as far as no answer of the stepper can change the weights but
the one that ends the release; what it says at each second is the same.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

import numpy as np
from msgspec.structs import replace

from agent.judge import Judgement
from agent.policy import Policy
from agent.policy_file import to_document
from agent.release import (
    Asked,
    Phase,
    Picture,
    Publish,
    Release,
    Remember,
    Sight,
    Verb,
    stage_of,
)
from agent.standing import missing
from agent.stepper import reconcile
from agent.watch import SLICE_S, Watch
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
        self.slice_s = SLICE_S
        """At most so long is judged at once; 0: every second alone."""
        self._first_canary: int | None = None

    def run(self, seconds: int) -> Release:
        """Until the release has ended, at most so long."""
        until = self.second + seconds
        while self.second < until and not self.release.phase.is_ended:
            self._play(max(1, min(self._ahead_s(), until - self.second)))
        return self.release

    @property
    def elapsed_s(self) -> int:
        return self.second - START

    def missing(self) -> str:
        return missing(self.release, self.policy, self._picture())

    def _ahead_s(self) -> int:
        """Seconds in which only a rollback could change the weights; at most a slice."""
        release, since_s = self.release, self.release.in_force_since_s
        if since_s is None:
            return 0
        if release.phase is Phase.BAKING:
            span_s = self.policy.bake_s
        else:
            stage = stage_of(release, self.policy)
            span_s = 0.0 if stage.waits else stage.duration_s
        return min(self.slice_s, ceil(since_s + span_s) - 1 - self.second)

    def _play(self, seconds: int) -> None:
        """So many seconds, or fewer if the release ends before."""
        evidence = [self._answer(self.second + ahead) for ahead in range(seconds)]
        moments, judgements = self._judge(evidence)
        live = self.live
        for one in evidence:
            assert self.live is live, "traffic was split ahead by weights that were in force"
            self.seen.append(one)
            self.second += 1
            self.judgement = judgements[bisect_right(moments, self.second - 1)]
            self._decide()
            if self.release.phase.is_ended:
                break

    def _decide(self) -> None:
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

    def _judge(
        self, evidence: Sequence[Evidence]
    ) -> tuple[Sequence[int], Sequence[Judgement | None]]:
        """The seconds after which something had to be judged; what was said before and after each.

        Words and numbers are of the last moment, or of the one that gave the verdict.
        """
        plan = self.release.plan
        if plan is None:
            return (), (self.judgement,)
        if self.watch is None or self.watch.phase is not self.release.phase:
            self.watch = Watch(self.release, self.policy)
        watch, judge = self.watch, self.watch.judge
        is_baking = watch.phase is Phase.BAKING
        share_bp = plan.holdback_share_bp if is_baking else plan.canary_share_bp
        share_bp = watch.roles.candidate_share_bp(share_bp)
        said = [judge.judgement(share_bp)]
        watch.take(_together(evidence), frozenset())
        watch.absorb(self.release.shares, lambda: True)
        moments, verdicts = judge.moments.tolist(), judge.verdicts(share_bp)
        for moment, verdict in enumerate(verdicts):
            is_told = verdict is not said[-1].verdict or moment == len(verdicts) - 1
            said.append(judge.judgement(share_bp, moment) if is_told else said[-1])
        return moments, said

    def _picture(self) -> Picture:
        sight = Sight(gateway="one", plan=self.live, lease_remaining_s=self.live.lease_s)
        return Picture(
            now_s=float(self.second),
            sights=(sight,),
            judgement=self.judgement,
            closed_through_s=float(self.second),
        )

    # ---- traffic -------------------------------------------------------------------------------

    def _answer(self, second: int) -> Evidence:
        total = int(self.random.poisson(self.rps))
        plan = self.live
        other, share_bp = Arm.CANARY, plan.canary_share_bp
        if plan.holdback_share_bp:
            other, share_bp = Arm.HOLDBACK, plan.holdback_share_bp
        split = int(self.random.binomial(total, share_bp / 10_000))
        counts = ((other, split), (Arm.STABLE, total - split))
        arms = [self._arm(second, arm, count) for arm, count in counts if count]
        return Evidence(
            route="rag",
            since=second,
            closed_through=second,
            seconds=tuple(seconds for seconds, _ in arms),
            scores=tuple(score for _, score in arms if score is not None),
            answered=tuple(
                AnsweredCounts(
                    second=second,
                    generation=plan.generation,
                    arm=seconds.arm,
                    answered=seconds.rows,
                    dropped=0,
                )
                for seconds, _ in arms
            ),
        )

    def _arm(self, second: int, arm: Arm, count: int) -> tuple[SecondCounts, ScoreCounts | None]:
        slot = self.live.slot(arm)
        behaviour = self.canary if slot == B else self.stable
        if slot == B and self._first_canary is None:
            self._first_canary = second
        is_cold = slot == B and second - (self._first_canary or 0) < behaviour.cold_s
        rate, median_ms = behaviour.errors, behaviour.median_ms
        if is_cold:
            rate, median_ms = 0.1, median_ms * 10
        if self.storm[0] <= second - START < self.storm[1]:
            rate = 0.3
        errors = int(self.random.binomial(count, rate))
        latency_us = median_ms * 1000 * np.exp(self.random.normal(0, 0.4, count))
        latency_us[self.random.random(count) < behaviour.tail] *= behaviour.tail_factor
        groups = Counter(self.random.integers(0, KEY_GROUPS, count).tolist())
        bad = Counter(self.random.integers(0, KEY_GROUPS, errors).tolist())
        seconds = SecondCounts(
            second=second,
            generation=self.live.generation,
            arm=arm,
            rows=count,
            requests=count,
            errors=errors,
            latency_bins=dict(Counter(latency_bin(one) for one in latency_us)),
            request_groups=dict(groups),
            error_groups=dict(bad),
        )
        return seconds, self._score(second, arm, count, behaviour.score)

    def _score(self, second: int, arm: Arm, count: int, mean: float | None) -> ScoreCounts | None:
        if mean is None:
            return None
        values = np.clip(self.random.normal(mean, 0.15, count), 0, 1)
        return ScoreCounts(
            second=second,
            generation=self.live.generation,
            arm=arm,
            name="ndcg",
            count=count,
            total=float(values.sum()),
            total_squares=float((values * values).sum()),
            bins=dict(Counter(score_bin(one) for one in values)),
        )


def _together(seconds: Sequence[Evidence]) -> Evidence:
    """Reads of one second each, as one read."""
    return Evidence(
        route="rag",
        since=seconds[0].since,
        closed_through=seconds[-1].closed_through,
        seconds=tuple(counts for one in seconds for counts in one.seconds),
        scores=tuple(counts for one in seconds for counts in one.scores),
        answered=tuple(counts for one in seconds for counts in one.answered),
    )
