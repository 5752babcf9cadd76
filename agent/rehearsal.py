"""One release played through the real judge and stepper, on evidence from anywhere. Pure.

Gateways are simulated: what the stepper publishes is live at once. Where the evidence comes from a
log, its weights are taken as given, so the stepper's wish and the weight in the log may differ: the
verdicts are about what was logged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from agent.judge import Judge, Judgement, Verdict
from agent.policy import Pause, Policy, SetWeight
from agent.policy_file import to_document
from agent.release import Phase, Picture, Publish, Release, Remember, Sight, stages
from agent.replay import without_people
from agent.stepper import reconcile
from agent.watch import PARTS_OF_ALPHA
from agent.windows import Block
from mlops.contracts.plan import RoutePlan, Slot

_STABLE = Slot(version="stable", endpoints=("http://127.0.0.1:1",))
_CANDIDATE = Slot(version="candidate", endpoints=("http://127.0.0.1:2",))
SHORT_SILENCE_S = 15.0
"""Longer without a row of either arm is told as a gap."""

_ACTIONS = {
    "release.step": "step",
    "release.promoted": "promote",
    "release.settled": "settle",
    "release.rolled_back": "rollback",
    "release.aborted": "abort",
}


def alone(policy: Policy) -> Policy:
    """The policy without what a log cannot answer: people, gates, freeze windows, mirrored pairs.

    A pause for a person is taken as approved once the verdict is HEALTHY.
    """
    approved = without_people(policy).steps
    steps = tuple(step for step in approved if isinstance(step, SetWeight | Pause))
    while steps and isinstance(steps[0], Pause):
        steps = steps[1:]
    return replace(policy, steps=steps or (SetWeight(5000),), gates=(), freeze=())


class Rehearsed:
    """A release as the agent keeps it, and the plan that is live."""

    def __init__(self, policy: Policy, *, started_at_s: float = 0.0) -> None:
        self._policy = policy
        self.live = RoutePlan(route="rehearsal", generation=1, salt="rehearsal", stable=_STABLE)
        self.release = Release(
            id="rehearsal",
            route="rehearsal",
            candidate=_CANDIDATE,
            policy=to_document(policy),
            reason="rehearsed",
            started_by="rehearsal",
            started_at_s=started_at_s,
        )

    @property
    def stage_share_bp(self) -> int:
        """What the current step asks for."""
        return stages(self._policy)[self.release.stage].share_bp

    def step(self, judgement: Judgement | None, now_s: float) -> str:
        """One cycle of the agent; the kind of change it made, or nothing."""
        sight = Sight(gateway="one", plan=self.live, lease_remaining_s=self.live.lease_s)
        picture = Picture(now_s=now_s, sights=(sight,), judgement=judgement, closed_through_s=now_s)
        kind = ""
        for write in reconcile(self.release, self._policy, picture):
            match write:
                case Remember(after, change):
                    self.release = after
                    kind = change.kind if change is not None else kind
                case Publish(plan, _):
                    self.live = plan
                case _:  # a renewed lease changes nothing here
                    pass
        return kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something changed: the verdict, the weight in the log, or what the stepper would do."""

    at_s: float
    judgement: Judgement
    action: str
    """hold, step, promote, settle, rollback, abort."""
    to_share_bp: int
    """What the stepper would ask for now."""
    share_bp: int
    """What the log says was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What became of the release."""

    result: str
    """promoted, rolled_back, undecided, invalid."""
    at_s: float
    canary_requests: int
    reason: str


class Rehearsal:
    """Feed blocks in the order of the log; take what changed, then how it ended."""

    def __init__(self, policy: Policy, started_at_s: float) -> None:
        self._policy = alone(policy)
        self._rehearsed = Rehearsed(self._policy, started_at_s=started_at_s)
        self._rehearsed.step(None, started_at_s)
        self._rehearsed.step(None, started_at_s)
        self._judge = Judge(self._policy, alpha=self._policy.alpha * PARTS_OF_ALPHA["steps"])
        self._canary_requests = 0
        self._last: tuple[Verdict, int] | None = None
        self._promoted: Ending | None = None
        self._judgement = self._judge.judgement(self._rehearsed.stage_share_bp)
        self._now_s = started_at_s
        self.is_over = False

    def feed(self, blocks: Iterable[Block], shares: Mapping[int, int]) -> Iterator[Moment]:
        """`shares` names, by generation, the weight in the log."""
        for block in blocks:
            if self.is_over:
                return
            self._judge.absorb(block)
            if not block.guard_only:
                self._canary_requests += block.candidate.ended
            elif not block.candidate.errors:
                continue  # the guard learned nothing that could end the release
            self._now_s = float(block.start_second + block.seconds)
            yield from self._cycle(shares[block.generation])

    def _cycle(self, share_bp: int) -> Iterator[Moment]:
        judgement = self._judge.judgement(self._rehearsed.stage_share_bp)
        self._judgement = judgement
        kind = self._rehearsed.step(judgement, self._now_s)
        action = _ACTIONS.get(kind, "hold")
        if action in {"step", "promote"}:
            self._rehearsed.step(None, self._now_s)  # sees what it published in force
        if self._promoted is not None and judgement.verdict is Verdict.REGRESSED:
            action = "rollback"  # also where the bake of the policy is over by now
        now = (judgement.verdict, share_bp)
        if now != self._last or action != "hold":
            self._last = now
            yield Moment(
                at_s=self._now_s,
                judgement=judgement,
                action=action,
                to_share_bp=0 if action == "rollback" else self._rehearsed.live.canary_share_bp,
                share_bp=share_bp,
            )
        self._conclude(action, judgement)

    def _conclude(self, action: str, judgement: Judgement) -> None:
        if action == "promote":
            self._promoted = self._ending("promoted", judgement)
            part = PARTS_OF_ALPHA["bake"]
            self._judge = Judge(replace(self._policy, grace_s=0.0), alpha=self._policy.alpha * part)
        self.is_over = action in {"rollback", "abort"}

    @property
    def is_baking(self) -> bool:
        """Promoted: from here on a fresh judge speaks."""
        return self._promoted is not None

    def ending(self) -> Ending:
        """After the last block."""
        phase = self._rehearsed.release.phase
        verdict = self._judgement.verdict
        if verdict is Verdict.REGRESSED and self.is_over:
            return self._ending("rolled_back", self._judgement)
        if phase is Phase.ABORTED:
            return self._ending("invalid", self._judgement)
        if self._promoted is not None:
            return replace(self._promoted, canary_requests=self._canary_requests)
        result = "invalid" if verdict is Verdict.INVALID else "undecided"
        return self._ending(result, self._judgement)

    def _ending(self, result: str, judgement: Judgement) -> Ending:
        return Ending(
            result=result,
            at_s=self._now_s,
            canary_requests=self._canary_requests,
            reason="; ".join(judgement.reasons),
        )
