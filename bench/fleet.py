"""Many simulated releases at once through the real judge and the real stepper.

The judge's state holds all of them on its first axis. The stepper decides for each one, on the same
values that the agent gives it; what it publishes is live in the next block.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from agent.judge import Judgement, Verdict
from agent.judge.panel import Panel, rate_table
from agent.judge.proof import level_for
from agent.policy import Policy
from agent.rehearsal import Rehearsed
from agent.release import Phase, stages
from bench.traffic import BINS, BLOCK_S, Traffic

Floats = NDArray[np.float64]

HOUR = 720
"""Blocks."""
_JUDGEMENTS = {
    verdict: Judgement(verdict=verdict, reasons=(verdict.value,), checks={}) for verdict in Verdict
}


@dataclass(kw_only=True)
class Outcome:
    """What became of each run; infinite where it never did."""

    rolled_back_s: Floats
    rollback_requests: Floats
    promoted_s: Floats
    promoted_requests: Floats
    invalid_s: Floats
    """First told to be INVALID."""
    peak_log: Floats
    """The most evidence there ever was against it, as a logarithm: at any alpha, was it found?"""
    step_s: list[Floats]
    """When each weight was left, by step."""

    @classmethod
    def of(cls, runs: int, steps: int) -> Outcome:
        """Nothing has happened yet."""
        never = {one.name: np.full(runs, np.inf) for one in fields(cls) if one.name != "step_s"}
        never["peak_log"] = np.zeros(runs)
        return cls(**never, step_s=[np.full(runs, np.inf) for _ in range(steps)])

    @classmethod
    def joined(cls, parts: list[Outcome]) -> Outcome:
        """Of all runs."""
        names = [one.name for one in fields(cls) if one.name != "step_s"]
        columns = {name: np.concatenate([getattr(one, name) for one in parts]) for name in names}
        steps = [np.concatenate(step) for step in zip(*(one.step_s for one in parts), strict=True)]
        return cls(**columns, step_s=steps)


class Fleet:
    """Runs of one scenario under one policy."""

    def __init__(self, policy: Policy, traffic: Traffic, runs: int, seed: int) -> None:
        self._policy, self._runs = policy, runs
        self._draws = traffic.runs(seed, runs)
        self.panel = Panel(policy, runs, BINS)
        self._releases = [Rehearsed(policy) for _ in range(runs)]
        self._share = np.zeros(runs, np.int64)
        self._changed = np.zeros(runs, np.int64)
        self._requests = np.zeros(runs)
        self._active = np.ones(runs, bool)
        self.outcome = Outcome.of(runs, len(stages(policy)))

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
            self.panel.look(rate_table("errors", block.candidate, block.control))
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
        evidence = self.panel.log_total()
        peak = self.outcome.peak_log
        self.outcome.peak_log = np.where(self._active, np.maximum(peak, evidence), peak)
        verdicts[evidence >= -np.log(self._policy.alpha)] = Verdict.REGRESSED
        verdicts[self.panel.sample_ratio.is_violated] = Verdict.INVALID
        return verdicts

    def _cycle(self, verdicts: NDArray[np.object_] | None, index: int) -> None:
        now_s = float(index * BLOCK_S)
        for run in np.flatnonzero(self._active):
            one = self._releases[run]
            verdict = None if verdicts is None else verdicts[run]
            stage = one.release.stage
            if verdict is Verdict.INVALID:
                self.outcome.invalid_s[run] = min(self.outcome.invalid_s[run], now_s)
            before = one.live
            one.step(None if verdict is None else _JUDGEMENTS[verdict], now_s)
            if one.live is not before:
                self._share[run] = one.live.canary_share_bp
                self._changed[run] = index
            self._note(run, one, stage, now_s)

    def _note(self, run: int, one: Rehearsed, stage: int, now_s: float) -> None:
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
