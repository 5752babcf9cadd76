"""Judge a stretch of the past again: what would have happened, and when. Pure.

The judge and the stepper are the agent's own. The weights are those that were in force: the log
cannot say how users would have fared at others. So the stepper walks its own ladder on the evidence
there was; its steps begin when it would have made them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from dataclasses import replace as amended
from math import inf
from typing import Any

from msgspec.structs import replace

from agent.freeze import frozen
from agent.judge import Judgement, Verdict
from agent.moments import iso
from agent.policy import Pause, Policy
from agent.policy_file import to_document
from agent.release import (
    Phase,
    Picture,
    Publish,
    Release,
    Remember,
    Sight,
    candidate_share_bp,
    mirrors,
    stage_of,
)
from agent.stepper import reconcile
from agent.watch import PairsWatch, Watch
from mlops.contracts.evidence import Evidence, Pair
from mlops.contracts.plan import Arm, RoutePlan, Slot

GATEWAY = "replay"

_NOWHERE = ("http://127.0.0.1:9",)

RESULTS = {Phase.SETTLED: "promoted", Phase.BAKING: "promoted", Phase.ROLLED_BACK: "rolled_back"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is judged again."""

    route: str
    stable: str
    candidate: str
    since_s: int
    shares: Mapping[int, int]
    """By generation with a canary, what the canary had."""
    holdback_shares: Mapping[int, int]
    """By generation with a holdback, what the holdback had."""


def without_people(policy: Policy) -> Policy:
    """Nobody is there to say `promote`: it is taken to come as soon as the step has proved itself.

    A step at 0 % proves nothing, so there it comes at once.
    """
    steps = tuple(
        Pause(0.0) if isinstance(step, Pause) and step.duration_s == inf else step
        for step in policy.steps
    )
    return amended(policy, steps=steps)


class Replay:
    """Feed evidence in order of time; collect what changed."""

    def __init__(self, past: Past, policy: Policy) -> None:
        self._past = past
        self._policy = without_people(policy)
        since_s = float(past.since_s)
        self.release = Release(
            id="replay",
            route=past.route,
            candidate=Slot(version=past.candidate, endpoints=_NOWHERE),
            policy=to_document(policy),
            reason="replay",
            started_by="replay",
            started_at_s=since_s,
        )
        self._live = RoutePlan(
            route=past.route,
            generation=1,
            salt=past.route,
            stable=Slot(version=past.stable, endpoints=_NOWHERE),
        )
        self._watch: Watch | None = None
        self._pairs: PairsWatch | None = None
        self._judgement: Judgement | None = None
        self._said: tuple[Verdict | None, int] = (None, 0)
        self.canary_requests = 0
        self.now_s = since_s
        self._cycle()  # the first weight is given before anything is seen

    @property
    def is_over(self) -> bool:
        """Nothing that follows could change the result."""
        return self.release.phase.is_ended

    def feed(self, evidence: Evidence, pairs: Iterable[Pair] = ()) -> list[dict[str, Any]]:
        """One tick's evidence; returns the changes of verdict and of weight."""
        self.now_s = float(evidence.closed_through + 1)
        watch = self._watching()
        watch.take(evidence, frozenset())
        is_baking = self.release.phase is Phase.BAKING
        shares = self._past.holdback_shares if is_baking else self._past.shares
        watch.absorb(shares, lambda: True)
        if not is_baking:
            self.canary_requests += _canary_requests(evidence, shares)
        self._judgement = self._judged(watch, pairs, evidence.closed_through)
        return self._cycle()

    def _watching(self) -> Watch:
        if self._watch is None or self._watch.phase is not self.release.phase:
            self._watch = Watch(self.release, self._policy)
        return self._watch

    def _judged(self, watch: Watch, pairs: Iterable[Pair], through: int) -> Judgement:
        if mirrors(self.release, self._policy):
            if self._pairs is None:
                self._pairs = PairsWatch(self.release, self._policy)
            found = tuple(pairs)
            self._pairs.take(found, through, len(found) + 1)
            return self._pairs.judge.judgement()
        if self.release.phase is Phase.BAKING:
            return watch.judgement(self._policy.holdback_share_bp)
        return watch.judgement(stage_of(self.release, self._policy).share_bp)

    def _cycle(self) -> list[dict[str, Any]]:
        """Whole cycles of the stepper, until nothing is left to do at this moment."""
        changes: list[dict[str, Any]] = []
        for _ in range(4):  # begin or advance, arrive, note what holds
            writes = reconcile(self.release, self._policy, self._picture())
            for write in writes:
                if isinstance(write, Remember):
                    changes += self._remember(write)
                elif isinstance(write, Publish):
                    self._live = write.plan
            if not writes or self.is_over:
                break
        return changes or self._changed_verdict()

    def _remember(self, write: Remember) -> list[dict[str, Any]]:
        self.release = write.release
        if write.change is None or write.change.kind == "release.held":
            return []
        if self.release.phase is Phase.BAKING and self.release.promoted_at_s == self.now_s:
            self.release = replace(self.release, in_force_since_s=self.now_s)
        return [self._line(write.change.kind.removeprefix("release."), (write.change.reason,))]

    def _changed_verdict(self) -> list[dict[str, Any]]:
        judgement = self._judgement
        if judgement is None or self._said[0] is judgement.verdict:
            return []
        return [self._line("", judgement.reasons)]

    def _picture(self) -> Picture:
        sight = Sight(gateway=GATEWAY, plan=self._live, lease_remaining_s=self._live.lease_s)
        return Picture(
            now_s=self.now_s,
            sights=(sight,),
            judgement=self._judgement,
            closed_through_s=self.now_s,
            frozen=frozen(self._policy.freeze, self.now_s),
        )

    def _line(self, action: str, reasons: tuple[str, ...]) -> dict[str, Any]:
        judgement = self._judgement
        weight_bp = candidate_share_bp(self.release, self.release.plan)
        self._said = (judgement.verdict if judgement else None, weight_bp)
        return {
            "t": iso(self.now_s),
            "verdict": judgement.verdict.value if judgement else Verdict.UNDECIDED.value,
            "action": action,
            "weight": weight_bp / 100,
            "reasons": list(reasons),
            "metrics": _metrics(judgement),
        }

    def result(self) -> dict[str, Any]:
        """The last line: how it ended, or what was still missing when the evidence did."""
        verdict = self._judgement.verdict if self._judgement else Verdict.UNDECIDED
        result = RESULTS.get(self.release.phase)
        reason = self.release.why
        if result is None:
            result = "invalid" if verdict is Verdict.INVALID else "undecided"
            reason = "; ".join(self._judgement.reasons) if self._judgement else "no evidence"
        return {
            "result": result,
            "t": iso(self.now_s),
            "canary_requests": self.canary_requests,
            "reason": reason,
        }


def _canary_requests(evidence: Evidence, shares: Mapping[int, int]) -> int:
    return sum(
        counts.requests + counts.cancelled
        for counts in evidence.seconds
        if counts.arm == Arm.CANARY and counts.generation in shares
    )


def _metrics(judgement: Judgement | None) -> dict[str, Any]:
    if judgement is None:
        return {}
    return {
        name: {
            "e_value": one.e_value,
            "effect": one.effect,
            "interval": getattr(one, "interval", None),
            "counts": {"canary": one.candidate_count, "stable": one.control_count},
        }
        for name, one in judgement.checks.items()
    }
