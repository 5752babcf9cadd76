"""Fold the blocks of one release into one verdict, with reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np

from agent.judge.counts import HISTOGRAM_BINS, BlockCounts, Chunk, chunk_of
from agent.judge.eprocess import Floats, Ints, log_goal
from agent.judge.panel import GUARD_WEIGHT, HANGING_WEIGHT, LOG_SUSPICIOUS, Panel, log_sum
from agent.judge.proof import level_for
from agent.judge.results import Results
from agent.judge.running import OVER_TIME, Sums, carried
from agent.judge.trace import Trace
from agent.judge.trust import Completeness
from agent.judge.verdict import CheckResult, Judgement, Verdict
from agent.judge.words import catastrophe, numbers
from agent.policy import Policy
from agent.windows import Block


class Judge:
    """One candidate against one control, from its first request to the end of a phase.

    The state is a fold of the blocks in the order of the log: absorbing them again from the start
    gives the same state, however many at a time. `alpha` is the chance of ever saying REGRESSED of
    a harmless candidate, `policy.beta` of ever saying HEALTHY of one worse than the margins.
    """

    def __init__(self, policy: Policy, *, alpha: float) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha {alpha} is outside 0..1")
        self._policy = policy
        self._alpha = alpha
        self._panel = Panel(policy, OVER_TIME)
        self._results = Results(self._panel, alpha, HISTOGRAM_BINS)
        self._completeness = Completeness()
        self._newest: tuple[int, int] = (-1, 0)
        self._counted = Sums(OVER_TIME, 3)
        counted = np.zeros((1, 3), np.int64)
        self._trace = Trace.of(self._panel, self._completeness, counted)
        self._before: tuple[str, ...] = ()
        """Why evidence was INVALID before the blocks of the trace."""
        self._looks = Sums(OVER_TIME, 4)
        self._seen: Ints = np.zeros((1, 4), np.int64)
        self._guard: Floats = self._panel.guard.log_value
        """After each of the last looks, and in front before them."""
        self.moments: Ints = np.zeros(1, np.int64)
        """Of the last chunk that had any: the second with which each was over."""
        self._show(self.moments, self.moments)

    @property
    def histograms(self) -> tuple[str, ...]:
        """Those that blocks must have."""
        return self._panel.histograms

    @property
    def score_field(self) -> str | None:
        """The name of the score that is judged."""
        return self._panel.score_field

    def absorb(self, *blocks: Block) -> None:
        """More blocks and looks, in order; many at once cost little more than one."""
        if blocks:
            self.absorb_chunk(chunk_of(blocks, self.histograms, self.score_field))

    def absorb_chunk(self, chunk: Chunk) -> None:
        """More of the log, in its order."""
        self._look(chunk)
        if chunk.blocks is not None:
            self._newest = max(self._newest, chunk.newest)
            self._absorb_blocks(chunk.blocks)
        if len(chunk.seconds):  # else the guard has learnt nothing that could turn the verdict
            blocks = chunk.blocks_by
            if chunk.blocks is None:
                blocks = np.full(len(blocks), len(self._trace) - 1)
            self.moments = chunk.seconds
            self._show(blocks, chunk.looks_by)

    def _look(self, chunk: Chunk) -> None:
        looks = np.stack([np.asarray(one) for one in chunk.looks], axis=-1)
        if not len(looks):
            self._seen, self._guard = self._seen[-1:], self._guard[-1:]
            return
        self._panel.look(chunk.looks)
        self._guard = carried(self._guard, self._panel.guard.log_value)
        self._seen = carried(self._seen, self._looks.push(looks)[1])

    def _absorb_blocks(self, blocks: BlockCounts) -> None:
        candidate, control = blocks.candidate, blocks.control
        self._before = self._complaints(len(self._trace) - 1)
        self._panel.absorb(blocks)
        self._completeness.absorb(candidate.counts, control.counts)
        hanging = (arm.counts["hanging"] for arm in (candidate, control))
        _, counted = self._counted.push(np.stack([candidate.ended, *hanging], axis=-1))
        following = Trace.of(self._panel, self._completeness, counted)
        self._results.absorb(blocks, following.harmless)
        self._trace = self._trace.then(following)

    def _show(self, blocks: Ints, looks: Ints) -> None:
        """Of each moment: which row of the trace holds, and what the guard says."""
        self._row = blocks
        self._guard_at, self._seen_at = self._guard[looks], self._seen[looks]
        self._verdicts: dict[int, Sequence[Verdict]] = {}
        self._judged: dict[tuple[int, int], Judgement] = {}

    def verdicts(self, share_bp: int) -> Sequence[Verdict]:
        """At each moment of the last chunk that had any, for a candidate that has this share."""
        level = level_for(share_bp, self._policy)
        if level not in self._verdicts:
            self._verdicts[level] = self._decide(level)
        return self._verdicts[level]

    def judgement(self, share_bp: int | None = None, moment: int = -1) -> Judgement:
        """What the evidence says now, or said at a moment of the last chunk.

        `share_bp` is the candidate's share whose proof is asked for; by default that of the newest
        generation seen.
        """
        share_bp = self._newest[1] if share_bp is None else share_bp
        level = level_for(share_bp, self._policy)
        key = level, moment % len(self._row)
        if key not in self._judged:
            verdict = self.verdicts(share_bp)[moment]
            self._judged[key] = self._explain(verdict, level, moment)
        return self._judged[key]

    def _decide(self, level: int) -> Sequence[Verdict]:
        trace, row, guard = self._trace, self._row, self._guard_at
        evidence = log_sum([guard + log(GUARD_WEIGHT), trace.rest[row]])
        is_suspicious = np.maximum(trace.most[row], guard) >= LOG_SUSPICIOUS
        verdicts = np.full(len(row), Verdict.UNDECIDED, object)
        if trace.harmless:  # without a check nothing is proved
            verdicts[trace.proved[row, level] & ~is_suspicious] = Verdict.HEALTHY
        verdicts[evidence >= log_goal(self._alpha)] = Verdict.REGRESSED
        verdicts[trace.invalid[row]] = Verdict.INVALID
        found: list[Verdict] = verdicts.tolist()
        return found

    def _explain(self, verdict: Verdict, level: int, moment: int) -> Judgement:
        trace, row = self._trace, int(self._row[moment])
        evidence = {
            name: (float(worse[row]), float(trace.harmless[name][row, level]))
            for name, worse in trace.worse.items()
        }
        log_goal_of_proof = log_goal(self._policy.beta)
        said = _Said(
            checks=self._results.at(row, evidence, level, log_goal_of_proof),
            log_guard=float(self._guard_at[moment]),
            log_parts={name: float(values[row]) for name, values in trace.parts.items()},
            evidence=evidence,
            seen=self._seen_at[moment].tolist(),
            counted=trace.counted[row].tolist(),
        )
        if verdict is Verdict.INVALID:
            reasons = self._complaints(row)
        elif verdict is Verdict.REGRESSED:
            reasons = said.blame(1 / self._alpha)
        elif verdict is Verdict.UNDECIDED:
            reasons = said.missing(log_goal_of_proof)
        else:
            reasons = said.proof()
        return Judgement(verdict=verdict, reasons=reasons, checks=said.checks, e_value=said.e_value)

    def _complaints(self, row: int) -> tuple[str, ...]:
        """Why evidence was INVALID after so many of the last blocks."""
        if row == 0:
            return self._before
        block = row - 1
        found = (self._completeness.complaint(block), self._panel.sample_ratio.complaint(block))
        return tuple(one for one in found if one)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """All the numbers of one moment, and what they come to in words."""

    checks: Mapping[str, CheckResult]
    log_guard: float
    log_parts: Mapping[str, float]
    """Of all but the guard."""
    evidence: Mapping[str, tuple[float, float]]
    seen: Sequence[int]
    counted: Sequence[int]

    @property
    def _parts(self) -> dict[str, float]:
        return {"guard": self.log_guard + log(GUARD_WEIGHT), **self.log_parts}

    @property
    def e_value(self) -> float:
        """All parts together."""
        return sum(exp(value) for value in self._parts.values())

    def proof(self) -> tuple[str, ...]:
        """Why it is HEALTHY."""
        proved = ", ".join(f"{name} {numbers(name, one)}" for name, one in self.checks.items())
        return (f"proved not worse than the margins: {proved}",)

    def blame(self, limit: float) -> tuple[str, ...]:
        """The parts that carry the evidence, strongest first."""
        reasons, parts = [], self._parts
        order = sorted(parts, key=lambda one: parts[one], reverse=True)
        for name in order:
            part = exp(parts[name])
            if part < exp(parts[order[0]]) / 10:
                break
            one = self.checks.get(name)
            said = self._guards(name) if one is None else numbers(name, one)
            reasons.append(f"{name}: {said} (e-value {part:.3g}, limit {limit:.3g})")
        return tuple(reasons)

    def _guards(self, name: str) -> str:
        if name == "hanging":
            _, mine, others = self.counted
            return f"{mine} requests of the candidate open for a minute, {others} of the control"
        return catastrophe(self.seen)

    def missing(self, log_goal_of_proof: float) -> tuple[str, ...]:
        """Why it is not HEALTHY yet."""
        if not self.checks:
            return ("the policy has no check, so nothing can be proved",)
        log_hanging = self.log_parts["hanging"] - log(HANGING_WEIGHT)
        reasons = [
            f"{name}: suspicious after {self.counted[0]} candidate requests, {self._guards(name)}"
            for name, value in (("guard", self.log_guard), ("hanging", log_hanging))
            if value >= LOG_SUSPICIOUS
        ]
        for name, one in self.checks.items():
            log_worse, log_harmless = self.evidence[name]
            if log_worse >= LOG_SUSPICIOUS:
                reasons.append(f"{name}: suspicious, {numbers(name, one)}")
            elif log_harmless < log_goal_of_proof:
                more = "not yet known how many more are needed"
                if one.still_needed is not None:
                    more = f"about {one.still_needed} more needed at this margin"
                reasons.append(f"{name}: {one.candidate_count} candidate requests, {more}")
        return tuple(reasons)
