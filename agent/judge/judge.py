"""Fold blocks into one verdict."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, inf, log

from agent.judge.eprocess import Table
from agent.judge.errors import ErrorsTest, Guard
from agent.judge.latency import ArmLatency, LatencyTest
from agent.judge.proof import level_for, log_goal
from agent.judge.score import ScoreTest
from agent.judge.trust import Completeness, SampleRatioTest
from agent.judge.verdict import CheckResult, Judgement, Verdict
from agent.policy import Policy
from agent.windows import ArmBlock, Block, ScoreSums

GUARD_WEIGHT = 0.1
"""The guard's part of alpha; the checks share the rest evenly."""
SUSPICIOUS_E_VALUE = 5.0
"""Too little to go back, too much to go on."""

Check = ErrorsTest | LatencyTest | ScoreTest


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
        self._guard = Guard()
        self._sample_ratio = SampleRatioTest(policy.sample_ratio_tolerance)
        self._completeness = Completeness()
        checks = policy.checks
        self._errors = ErrorsTest(checks.errors) if checks.errors else None
        self._latency = LatencyTest(checks.latency) if checks.latency else None
        self._ttft = LatencyTest(checks.ttft) if checks.ttft else None
        self._score = ScoreTest(checks.score) if checks.score else None
        self._first_candidate_second: int | None = None
        self._newest: tuple[int, int] = (-1, 0)
        self._candidate_requests = 0

    def absorb(self, block: Block) -> None:
        """One more block, in the order of the log."""
        if block.guard_only:
            self._note_first_request(block)
            self._guard.absorb(_errors_table(block))
            return
        self._note_first_request(block)
        self._newest = max(self._newest, (block.generation, block.share_bp))
        self._candidate_requests += block.candidate.ended
        self._completeness.absorb(block)
        if block.settled:
            candidate, control = block.candidate.ended, block.control.ended
            self._sample_ratio.absorb(candidate, control, block.share_bp)
        if self._in_grace(block):
            self._learn(block)
        else:
            self._compare(block)

    def _note_first_request(self, block: Block) -> None:
        if self._first_candidate_second is None and block.candidate.ended:
            self._first_candidate_second = block.start_second

    def _in_grace(self, block: Block) -> bool:
        first = self._first_candidate_second
        return first is None or block.start_second < first + self._policy.grace_s

    def _learn(self, block: Block) -> None:
        if self._latency:
            self._latency.learn(_latency(block.control))
        if self._ttft:
            self._ttft.learn(_first_byte(block.control))

    def _compare(self, block: Block) -> None:
        if self._score:
            # A score arrives long after its answer: when the block began does not bias it.
            name = self._score.name
            self._score.absorb(
                block.candidate.scores.get(name, ScoreSums()),
                block.control.scores.get(name, ScoreSums()),
            )
        if not block.settled:
            return
        if self._errors:
            self._errors.absorb(_errors_table(block))
        if self._latency:
            self._latency.absorb(_latency(block.candidate), _latency(block.control))
        if self._ttft:
            self._ttft.absorb(_first_byte(block.candidate), _first_byte(block.control))

    def _checks(self) -> Mapping[str, Check]:
        named: dict[str, Check | None] = {
            "errors": self._errors,
            "latency": self._latency,
            "ttft": self._ttft,
            "score": self._score,
        }
        return {name: check for name, check in named.items() if check is not None}

    def judgement(self, share_bp: int | None = None) -> Judgement:
        """What the evidence says now.

        `share_bp` is the candidate's share whose proof is asked for; by default that of the newest
        generation seen.
        """
        level = level_for(self._newest[1] if share_bp is None else share_bp, self._policy)
        goal = log_goal(self._policy.beta)
        checks = self._checks()
        results = {name: check.result(level, goal) for name, check in checks.items()}
        parts = self._weighted_logs(checks)
        total = sum(exp(value) for value in parts.values())
        verdict, reasons = self._decide(results, parts, total)
        return Judgement(verdict=verdict, reasons=reasons, checks=results, e_value=total)

    def _weighted_logs(self, checks: Mapping[str, Check]) -> dict[str, float]:
        """log(w E) of each part; errors count only while their rise is one that matters."""
        parts = {"guard": log(GUARD_WEIGHT) + self._guard.log_value}
        for name, check in checks.items():
            counts = not isinstance(check, ErrorsTest) or check.matters
            share = log((1 - GUARD_WEIGHT) / len(checks))
            parts[name] = share + check.log_value if counts else -inf
        return parts

    def _decide(
        self, results: Mapping[str, CheckResult], parts: Mapping[str, float], total: float
    ) -> tuple[Verdict, tuple[str, ...]]:
        complaints = (self._completeness.complaint(), self._sample_ratio.complaint())
        if invalid := tuple(one for one in complaints if one):
            return Verdict.INVALID, invalid
        if total >= 1 / self._alpha:
            return Verdict.REGRESSED, self._blame(results, parts, total)
        if missing := self._missing(results):
            return Verdict.UNDECIDED, missing
        proved = ", ".join(f"{name} {_numbers(name, one)}" for name, one in results.items())
        return Verdict.HEALTHY, (f"proved not worse than the margins: {proved}",)

    def _blame(
        self, results: Mapping[str, CheckResult], parts: Mapping[str, float], total: float
    ) -> tuple[str, ...]:
        """The parts that carry the evidence, strongest first."""
        reasons = []
        for name in sorted(parts, key=lambda one: parts[one], reverse=True):
            part = exp(parts[name])
            if part < total / 10:
                break
            numbers = _numbers(name, results[name]) if name in results else self._catastrophe()
            reasons.append(f"{name}: {numbers} (e-value {part:.3g}, limit {1 / self._alpha:.3g})")
        return tuple(reasons)

    def _catastrophe(self) -> str:
        seen = self._guard.seen
        return (
            f"{seen.candidate_bad} errors in {seen.candidate} requests of the candidate, "
            f"{seen.control_bad} in {seen.control} of the control"
        )

    def _missing(self, results: Mapping[str, CheckResult]) -> tuple[str, ...]:
        """Why this is not HEALTHY yet; empty if it is."""
        if not results:
            return ("the policy has no check, so nothing can be proved",)
        seen = f"{self._candidate_requests} candidate requests"
        if self._guard.log_value >= log(SUSPICIOUS_E_VALUE):
            return (f"guard: suspicious after {seen}, {self._catastrophe()}",)
        reasons = []
        for name, one in results.items():
            if one.e_value >= SUSPICIOUS_E_VALUE:
                reasons.append(f"{name}: suspicious, {_numbers(name, one)}")
            elif one.noninferiority_e_value < 1 / self._policy.beta:
                more = "not yet known how many more are needed"
                if one.still_needed is not None:
                    more = f"about {one.still_needed} more needed at this margin"
                reasons.append(f"{name}: {one.candidate_count} candidate requests, {more}")
        return tuple(reasons)


def _numbers(name: str, one: CheckResult) -> str:
    if one.candidate_value is None or one.control_value is None or one.effect is None:
        return f"{one.candidate_count} candidate and {one.control_count} control requests"
    match name:
        case "errors":
            return f"{one.candidate_value:.2%} against {one.control_value:.2%}"
        case "latency" | "ttft":
            candidate_ms, control_ms = one.candidate_value / 1000, one.control_value / 1000
            which = "" if one.quantile is None else f"p{one.quantile * 100:g} "
            return f"{which}{candidate_ms:.1f} ms against {control_ms:.1f} ms ({one.effect:+.0%})"
        case _:
            return f"{one.candidate_value:.3f} against {one.control_value:.3f}"


def _errors_table(block: Block) -> Table:
    candidate, control = block.candidate, block.control
    return Table(candidate.requests, candidate.errors, control.requests, control.errors)


def _latency(arm: ArmBlock) -> ArmLatency:
    return ArmLatency(arm.latency_bins, arm.cancelled_bins)


def _first_byte(arm: ArmBlock) -> ArmLatency:
    # Whether a cancelled request had its first byte is not known, so it counts for latency only.
    return ArmLatency(arm.first_byte_bins, {})
