"""One release played through the agent's own judge and stepper, on evidence from anywhere. Pure.

Gateways are simulated: what the stepper publishes is live at once. Weights are those that were in
force, for a log cannot say how users would have fared at others: so the stepper walks its own
ladder on the evidence there was, and its steps begin when it would have made them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf

from msgspec.structs import replace as amended

from agent.freeze import frozen
from agent.judge import Judgement, Verdict
from agent.judge.counts import ROW_SCORE
from agent.policy import Pause, Policy, SetWeight
from agent.policy_file import to_document
from agent.release import (
    Change,
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
from agent.windows import Roles
from mlops.contracts.evidence import Evidence, Pair
from mlops.contracts.plan import Arm, RoutePlan, Slot

_NOWHERE = ("http://127.0.0.1:9",)


def without_people(policy: Policy) -> Policy:
    """Nobody is there to say `promote`: it is taken to come as soon as the step has proved itself.

    A step at 0 % proves nothing, so there it comes at once.
    """
    steps = tuple(
        Pause(0.0) if isinstance(step, Pause) and step.duration_s == inf else step
        for step in policy.steps
    )
    return replace(policy, steps=steps)


def alone(policy: Policy) -> Policy:
    """The policy without what rows cannot answer: people, gates, freeze windows, mirrored pairs.

    A log has one score: it is taken for the one that the policy names.
    """
    approved = without_people(policy).steps
    steps = tuple(step for step in approved if isinstance(step, SetWeight | Pause))
    while steps and isinstance(steps[0], Pause):
        steps = steps[1:]
    score = policy.checks.score
    checks = policy.checks
    if score is not None:
        checks = replace(checks, score=replace(score, field=ROW_SCORE))
    return replace(policy, steps=steps or (SetWeight(5000),), gates=(), freeze=(), checks=checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is judged: by generation, what the log says was asked for the arm beside stable."""

    since_s: int
    shares: Mapping[int, int]
    """Generations with a canary."""
    holdback_shares: Mapping[int, int]
    """Generations with a holdback: a promotion has been. Without any, the canary is read on."""
    route: str = "rehearsal"
    stable: str = "stable"
    candidate: str = "candidate"


_NO_PAST = Past(since_s=0, shares={}, holdback_shares={})


class Rehearsed:
    """A release as the agent keeps it, and the plan that is live."""

    def __init__(self, policy: Policy, past: Past = _NO_PAST) -> None:
        self._policy = policy
        self.live = RoutePlan(
            route=past.route,
            generation=1,
            salt=past.route,
            stable=Slot(version=past.stable, endpoints=_NOWHERE),
        )
        self.release = Release(
            id="rehearsal",
            route=past.route,
            candidate=Slot(version=past.candidate, endpoints=_NOWHERE),
            policy=to_document(policy),
            reason="rehearsed",
            started_by="rehearsal",
            started_at_s=float(past.since_s),
        )

    def step(self, judgement: Judgement | None, now_s: float) -> Change | None:
        """One cycle of the agent, and what it changed; a new plan is seen in force at once."""
        before = self.live
        change = self._cycle(judgement, now_s)
        if self.live is not before:
            self._cycle(None, now_s)
        return change

    def _cycle(self, judgement: Judgement | None, now_s: float) -> Change | None:
        sight = Sight(gateway="one", plan=self.live, lease_remaining_s=self.live.lease_s)
        picture = Picture(
            now_s=now_s,
            sights=(sight,),
            judgement=judgement,
            closed_through_s=now_s,
            frozen=frozen(self._policy.freeze, now_s),
        )
        noted = None
        for write in reconcile(self.release, self._policy, picture):
            if isinstance(write, Remember):
                self.release, noted = write.release, write.change
            elif isinstance(write, Publish):
                self.live = write.plan
        return noted


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something changed: the verdict, the weight in the log, or what the stepper would do."""

    at_s: float
    judgement: Judgement
    action: str
    """As the agent's events without `release.`: step, promoted, settled, rolled_back; or none."""
    reasons: tuple[str, ...]
    to_share_bp: int
    """What the stepper would ask for the new version now."""
    share_bp: int
    """What the log says was asked for the arm beside stable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What became of the release."""

    result: str
    """promoted, rolled_back, undecided, invalid."""
    at_s: float
    """A promotion's where it stayed promoted."""
    canary_requests: int
    """Ended in the canary, up to where reading ended."""
    reason: str


class Rehearsal:
    """Feed evidence in the order of time; take what changed, then how it ended."""

    def __init__(self, policy: Policy, past: Past) -> None:
        self._policy, self._past = policy, past
        self._rehearsed = Rehearsed(policy, past)
        self._now_s = float(past.since_s)
        self._rehearsed.step(None, self._now_s)  # the first weight is given before anything is seen
        self._watch = Watch(self.release, policy)
        self._pairs: PairsWatch | None = None
        self._shares = past.shares
        """Of the generations that are judged."""
        self._asked = {**past.shares, **past.holdback_shares}
        self._share_bp = 0
        self._judgement: Judgement | None = None
        self._said: tuple[Verdict, int] | None = None
        self._promoted: Ending | None = None
        self._is_withdrawn = False
        self._canary_requests = 0

    @property
    def release(self) -> Release:
        """As the agent would remember it now."""
        return self._rehearsed.release

    @property
    def judgement(self) -> Judgement | None:
        """The latest; None before anything was fed."""
        return self._judgement

    @property
    def share_bp(self) -> int:
        """What the log says was asked for the arm beside stable, as far as it was fed."""
        return self._share_bp

    @property
    def is_over(self) -> bool:
        """Nothing that follows could change the result; where it is promoted, reading can go on."""
        return self._is_withdrawn

    def feed(self, evidence: Evidence, pairs: Iterable[Pair] = ()) -> Iterator[Moment]:
        """One tick: a second, or silence."""
        self._now_s = float(evidence.closed_through + 1)
        self._note(evidence)
        self._watch.take(evidence, frozenset())
        self._watch.absorb(self._shares, lambda: True)
        judgement = self._judged(tuple(pairs), evidence.closed_through)
        if judgement is not self._judgement or self._may_act(judgement):
            self._judgement = judgement
            yield from self._cycle(judgement)

    def _note(self, evidence: Evidence) -> None:
        for counts in evidence.seconds:
            self._share_bp = self._asked.get(counts.generation, self._share_bp)
            if counts.arm == Arm.CANARY and counts.generation in self._past.shares:
                self._canary_requests += counts.requests + counts.cancelled

    def _judged(self, pairs: tuple[Pair, ...], through: int) -> Judgement:
        release, policy = self.release, self._policy
        if mirrors(release, policy):
            self._pairs = self._pairs or PairsWatch(release, policy)
            self._pairs.take(pairs, through, len(pairs) + 1)
            return self._pairs.judge.judgement()
        return self._watch.judge.judgement(self._share_asked)

    @property
    def _share_asked(self) -> int:
        """The candidate's, whose proof is asked for."""
        release, policy, roles = self.release, self._policy, self._watch.roles
        is_baking = roles is Roles.BAKE
        share_bp = policy.holdback_share_bp if is_baking else stage_of(release, policy).share_bp
        return roles.candidate_share_bp(share_bp)

    def _may_act(self, judgement: Judgement) -> bool:
        """While a step is UNDECIDED, only the judge can end it; else time can, too."""
        phase = self.release.phase
        is_waiting = phase is Phase.PROGRESSING and judgement.verdict is Verdict.UNDECIDED
        return not (phase.is_ended or is_waiting)

    def _cycle(self, judgement: Judgement) -> Iterator[Moment]:
        change = self._rehearsed.step(judgement, self._now_s)
        action, reasons = "", judgement.reasons
        if change is not None and change.kind != "release.held":
            action, reasons = change.kind.removeprefix("release."), (change.reason,)
        elif self._promoted is not None and judgement.verdict is Verdict.REGRESSED:
            action = Phase.ROLLED_BACK.value  # also where the bake of the policy is over by now
        is_back = action in {Phase.ROLLED_BACK, Phase.ABORTED}
        said = (judgement.verdict, self._share_bp)
        if action or said != self._said:
            self._said = said
            yield Moment(
                at_s=self._now_s,
                judgement=judgement,
                action=action,
                reasons=reasons,
                to_share_bp=0 if is_back else candidate_share_bp(self.release, self.release.plan),
                share_bp=self._share_bp,
            )
        self._is_withdrawn = is_back
        if action == "promoted":
            self._promoted = self._ending("promoted", reasons)
            self._begin_bake()

    def _begin_bake(self) -> None:
        """A fresh judge: of the new stable against the holdback, or else of the canary on."""
        baking = amended(self.release, phase=Phase.BAKING)
        if self._past.holdback_shares:
            self._shares = self._past.holdback_shares
            self._watch = Watch(baking, self._policy)
        else:
            self._watch = Watch(baking, replace(self._policy, grace_s=0.0), roles=Roles.STEPS)

    def ending(self) -> Ending:
        """After the last tick."""
        judgement = self._judgement
        reasons = judgement.reasons if judgement else ("no evidence",)
        if self._is_withdrawn:
            is_aborted = self.release.phase is Phase.ABORTED
            return self._ending("invalid" if is_aborted else "rolled_back", reasons)
        if self._promoted is not None:
            return replace(self._promoted, canary_requests=self._canary_requests)
        is_invalid = judgement is not None and judgement.verdict is Verdict.INVALID
        return self._ending("invalid" if is_invalid else "undecided", reasons)

    def _ending(self, result: str, reasons: tuple[str, ...]) -> Ending:
        return Ending(
            result=result,
            at_s=self._now_s,
            canary_requests=self._canary_requests,
            reason="; ".join(reasons),
        )
