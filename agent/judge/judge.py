"""Fold the blocks of one release into one verdict, with reasons."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log

from agent.judge.counts import HISTOGRAM_BINS, block_counts, error_counts
from agent.judge.eprocess import log_goal
from agent.judge.panel import SUSPICIOUS_E_VALUE, Panel
from agent.judge.proof import level_for
from agent.judge.results import Results
from agent.judge.trust import Completeness
from agent.judge.verdict import CheckResult, Judgement, Verdict
from agent.judge.words import catastrophe, numbers
from agent.policy import Policy
from agent.windows import Block


class Judge:
    """One candidate against one control, from its first request to the end of a phase.

    The state is a fold of the blocks in the order of the log: absorbing them again from the start
    gives the same state. `alpha` is the chance of ever saying REGRESSED of a harmless candidate,
    `policy.beta` of ever saying HEALTHY of one worse than the margins.
    """

    def __init__(self, policy: Policy, *, alpha: float) -> None:
        if not 0 < alpha < 1:
            raise ValueError(f"alpha {alpha} is outside 0..1")
        self._policy = policy
        self._alpha = alpha
        self._panel = Panel(policy)
        self._results = Results(self._panel, alpha, HISTOGRAM_BINS)
        self._completeness = Completeness()
        self._newest: tuple[int, int] = (-1, 0)
        self._seen = [0, 0, 0, 0]
        """By the guard: requests and errors of the candidate, then of the control."""
        self._hanging = [0, 0]
        self._candidate_requests = 0
        self._shown: dict[int, dict[str, CheckResult]] = {}
        """Results by level, until the next block: the guard's seconds do not change them."""
        self._judged: dict[int, Judgement] = {}
        """The same of judgements, until the next block or error of the candidate."""

    def absorb(self, block: Block) -> None:
        """One more block, in the order of the log."""
        candidate, control = block.candidate, block.control
        if block.guard_only:
            if candidate.errors:  # without, the guard learns nothing that could turn the verdict
                self._judged.clear()
            for index, count in enumerate(
                (candidate.requests, candidate.errors, control.requests, control.errors)
            ):
                self._seen[index] += count
            self._panel.look(error_counts(candidate), error_counts(control), block.start_second)
            return
        self._judged.clear()
        self._shown.clear()
        self._newest = max(self._newest, (block.generation, block.share_bp))
        self._candidate_requests += candidate.ended
        self._completeness.absorb(block)
        self._hanging[0] += candidate.hanging
        self._hanging[1] += control.hanging
        counts = block_counts(block, self._panel.histograms, self._panel.score_field)
        if self._panel.is_compared(counts)[0]:
            self._results.before(counts)
        self._panel.absorb(counts)
        self._results.after()

    def judgement(self, share_bp: int | None = None) -> Judgement:
        """What the evidence says now.

        `share_bp` is the candidate's share whose proof is asked for; by default that of the newest
        generation seen.
        """
        level = level_for(self._newest[1] if share_bp is None else share_bp, self._policy)
        if level not in self._judged:
            self._judged[level] = self._judge(level)
        return self._judged[level]

    def _judge(self, level: int) -> Judgement:
        if level not in self._shown:
            self._shown[level] = self._results.at(level, log_goal(self._policy.beta))
        results = self._shown[level]
        parts = {name: float(value[0]) for name, value in self._panel.log_parts().items()}
        total = sum(exp(value) for value in parts.values())
        verdict, reasons = self._decide(results, parts, level)
        return Judgement(verdict=verdict, reasons=reasons, checks=results, e_value=total)

    def _decide(
        self, results: Mapping[str, CheckResult], parts: Mapping[str, float], level: int
    ) -> tuple[Verdict, tuple[str, ...]]:
        complaints = (self._completeness.complaint(), self._panel.sample_ratio.complaint())
        if invalid := tuple(one for one in complaints if one):
            return Verdict.INVALID, invalid
        if self._panel.is_regressed(self._alpha)[0]:
            return Verdict.REGRESSED, self._blame(results, parts)
        missing = self._missing(results)
        if missing or self._panel.is_suspicious()[0] or not self._panel.is_proved(level)[0]:
            return Verdict.UNDECIDED, missing
        proved = ", ".join(f"{name} {numbers(name, one)}" for name, one in results.items())
        return Verdict.HEALTHY, (f"proved not worse than the margins: {proved}",)

    def _blame(
        self, results: Mapping[str, CheckResult], parts: Mapping[str, float]
    ) -> tuple[str, ...]:
        """The parts that carry the evidence, strongest first."""
        reasons = []
        order = sorted(parts, key=lambda one: parts[one], reverse=True)
        for name in order:
            part = exp(parts[name])
            if part < exp(parts[order[0]]) / 10:
                break
            said = numbers(name, results[name]) if name in results else self._guards(name)
            reasons.append(f"{name}: {said} (e-value {part:.3g}, limit {1 / self._alpha:.3g})")
        return tuple(reasons)

    def _guards(self, name: str) -> str:
        if name == "hanging":
            mine, others = self._hanging
            return f"{mine} requests of the candidate open for a minute, {others} of the control"
        return catastrophe(self._seen)

    def _missing(self, results: Mapping[str, CheckResult]) -> tuple[str, ...]:
        """Why this is not HEALTHY yet; empty if it is."""
        if not results:
            return ("the policy has no check, so nothing can be proved",)
        reasons = []
        suspicious = log(SUSPICIOUS_E_VALUE)
        for name, guard in (("guard", self._panel.guard), ("hanging", self._panel.hanging)):
            if guard.log_value[0] >= suspicious:
                seen = f"{self._candidate_requests} candidate requests"
                reasons.append(f"{name}: suspicious after {seen}, {self._guards(name)}")
        for name, one in results.items():
            if one.e_value >= SUSPICIOUS_E_VALUE:
                reasons.append(f"{name}: suspicious, {numbers(name, one)}")
            elif one.noninferiority_e_value < 1 / self._policy.beta:
                more = "not yet known how many more are needed"
                if one.still_needed is not None:
                    more = f"about {one.still_needed} more needed at this margin"
                reasons.append(f"{name}: {one.candidate_count} candidate requests, {more}")
        return tuple(reasons)
