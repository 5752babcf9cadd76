"""Many simulated releases at once through the real judge and the real stepper.

The judge's state holds all of them on its first axis. The stepper decides for each one, on the same
values that the agent gives it; what it publishes is live in the next block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.judge import Judgement, Verdict
from agent.judge.panel import Panel
from agent.judge.proof import level_for
from agent.policy import Policy
from agent.policy_file import to_document
from agent.release import Phase, Picture, Publish, Release, Remember, Sight
from agent.stepper import reconcile
from bench.traffic import BINS, BLOCK_S, Traffic
from mlops.contracts.plan import RoutePlan, Slot

HOUR = 720
"""Blocks."""
_JUDGEMENTS = {
    verdict: Judgement(verdict=verdict, reasons=(verdict.value,), checks={}) for verdict in Verdict
}
_STABLE = Slot(version="1", endpoints=("http://127.0.0.1:1",))
_CANARY = Slot(version="2", endpoints=("http://127.0.0.1:2",))


class Simulated:
    """One release as the agent keeps it, and the plan that is live."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.live = RoutePlan(route="rag", generation=1, salt="rag", stable=_STABLE)
        self.release = Release(
            id="rel-1",
            route="rag",
            candidate=_CANARY,
            policy=to_document(policy),
            reason="simulated",
            started_by="bench",
            started_at_s=0.0,
        )

    def step(self, verdict: Verdict | None, now_s: float) -> bool:
        """One cycle of the agent; whether another plan is live after it."""
        sight = Sight(gateway="g", plan=self.live, lease_remaining_s=self.live.lease_s)
        picture = Picture(
            now_s=now_s,
            sights=(sight,),
            judgement=_JUDGEMENTS[verdict] if verdict is not None else None,
            closed_through_s=now_s,
        )
        before = self.live
        for write in reconcile(self.release, self._policy, picture):
            match write:
                case Remember(after, _):
                    self.release = after
                case Publish(plan, _):
                    self.live = plan
        return before is not self.live


@dataclass(kw_only=True)
class Outcome:
    """What became of each run; infinite where it never did."""

    rolled_back_s: NDArray[np.float64]
    rollback_requests: NDArray[np.float64]
    promoted_s: NDArray[np.float64]
    promoted_requests: NDArray[np.float64]
    invalid: NDArray[np.bool_]
    """Ever said to be INVALID."""
    step_s: list[NDArray[np.float64]]
    """When each weight was left, by step."""


class Fleet:
    """Runs of one scenario under one policy."""

    def __init__(self, policy: Policy, traffic: Traffic, runs: int, seed: int) -> None:
        self._policy, self._runs = policy, runs
        self._draws = traffic.runs(seed, runs)
        self.panel = Panel(policy, runs, BINS)
        self._releases = [Simulated(policy) for _ in range(runs)]
        self._share = np.zeros(runs, np.int64)
        self._changed = np.zeros(runs, np.int64)
        self._requests = np.zeros(runs)
        self._active = np.ones(runs, bool)
        never = [np.full(runs, np.inf) for _ in range(4)]
        stages = sum(1 for step in policy.steps if hasattr(step, "share_bp"))
        self.outcome = Outcome(
            rolled_back_s=never[0],
            rollback_requests=never[1],
            promoted_s=never[2],
            promoted_requests=never[3],
            invalid=np.zeros(runs, bool),
            step_s=[np.full(runs, np.inf) for _ in range(stages)],
        )

    def run(self, blocks: int, *, before: int = 12) -> Outcome:
        """`before` blocks of stable alone, then the release; ends early once all are decided."""
        nobody = np.zeros(self._runs, bool)
        for index in range(-before, 0):
            self.panel.absorb(self._draws.block(index, self._share, nobody))
        self._cycle(None, 0)
        for index in range(blocks):
            settled = (index - self._changed >= 1) | (index == 0)
            block = self._draws.block(index, self._share, settled)
            self._requests += block.candidate.ended
            self.panel.look(block.candidate, block.control, block.start_second)
            self.panel.absorb(block)
            self._cycle(self._verdicts(), index + 1)
            if not self._active.any():
                break
        return self.outcome

    def _verdicts(self) -> NDArray[np.object_]:
        """As `Judge` decides them, by run."""
        levels = np.array([level_for(int(share), self._policy) for share in self._share])
        proved = np.zeros(self._runs, bool)
        for level in np.unique(levels):
            proved |= (levels == level) & self.panel.is_proved(int(level))
        verdicts = np.full(self._runs, Verdict.UNDECIDED, object)
        verdicts[proved & ~self.panel.is_suspicious()] = Verdict.HEALTHY
        verdicts[self.panel.is_regressed(self._policy.alpha)] = Verdict.REGRESSED
        verdicts[self.panel.sample_ratio.is_violated] = Verdict.INVALID
        return verdicts

    def _cycle(self, verdicts: NDArray[np.object_] | None, index: int) -> None:
        now_s = float(index * BLOCK_S)
        for run in np.flatnonzero(self._active):
            one = self._releases[run]
            verdict = None if verdicts is None else verdicts[run]
            stage = one.release.stage
            self.outcome.invalid[run] |= verdict is Verdict.INVALID
            moved = one.step(verdict, now_s)
            if moved:
                self._share[run] = one.live.canary_share_bp
                self._changed[run] = index
                one.step(None, now_s)  # sees what it published in force
            self._note(run, one, stage, now_s)

    def _note(self, run: int, one: Simulated, stage: int, now_s: float) -> None:
        phase, outcome = one.release.phase, self.outcome
        if one.release.stage > stage or phase in {Phase.BAKING, Phase.SETTLED}:
            outcome.step_s[stage][run] = now_s
        if phase is Phase.PROGRESSING:
            return
        self._active[run] = False
        if phase is Phase.ROLLED_BACK:
            outcome.rolled_back_s[run] = now_s
            outcome.rollback_requests[run] = self._requests[run]
        elif phase in {Phase.BAKING, Phase.SETTLED}:
            outcome.promoted_s[run] = now_s
            outcome.promoted_requests[run] = self._requests[run]
