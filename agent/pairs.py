"""Judge a version before any user sees it: its answer and stable's to the same query. Pure.

Each pair says of each thing that is compared whether the candidate was worse (1), better (-1) or
neither (0). For lambda within bounds the product of 1 + lambda (d - margin) is an e-process against
"the mean of d is at most the margin", and that of 1 + lambda (margin - d) against "at least the
margin" (betting on a bounded mean; Waudby-Smith and Ramdas 2024). Discordant pairs show a harm,
concordant ones that there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, log
from typing import Final

import numpy as np

from agent.judge import CheckResult, Judgement, Verdict
from agent.policy import Policy
from mlops.contracts.evidence import Pair, PairSide
from mlops.contracts.record import ERROR_OUTCOMES, Outcome

LOG_CEILING = 50.0
"""Far beyond any threshold."""

_PARTS: Final = np.array([0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95])
"""Of the greatest lambda that cannot lose everything."""

PERSISTENCE = 0.9
"""Of rank-biased overlap: the top ten documents carry 86 % of its weight (Webber et al. 2010)."""


class Bets:
    """Evidence against "the mean of x is at most 0", for an x that is never below `least`."""

    def __init__(self, least: float) -> None:
        self._bets = _PARTS / -least
        self._log_wealth = np.full(len(_PARTS), -log(len(_PARTS)))

    def absorb(self, x: float) -> None:
        """One more pair."""
        self._log_wealth = np.minimum(LOG_CEILING, self._log_wealth + np.log1p(self._bets * x))

    @property
    def log_value(self) -> float:
        """Evidence so far; the bets share the wealth evenly at first."""
        highest = float(self._log_wealth.max())
        return highest + log(float(np.exp(self._log_wealth - highest).sum()))


class _Compared:
    """One thing that is compared, pair by pair."""

    def __init__(self, margin: float, least: float = -1.0, greatest: float = 1.0) -> None:
        """For d in `least`..`greatest`, whose mean may be `margin`."""
        self._margin = margin
        self._worse = Bets(least - margin)
        self._mirror = Bets(margin - greatest)
        self.count = 0
        self.total = 0.0
        self.candidate = 0.0
        self.control = 0.0

    def absorb(self, d: float, candidate: float, control: float) -> None:
        """`candidate` and `control` are what is shown, as means."""
        self.count += 1
        self.total += d
        self.candidate += candidate
        self.control += control
        self._worse.absorb(d - self._margin)
        self._mirror.absorb(self._margin - d)

    @property
    def log_worse(self) -> float:
        return self._worse.log_value

    def result(self, log_goal: float) -> CheckResult:
        mirrored = self._mirror.log_value
        return CheckResult(
            candidate_count=self.count,
            control_count=self.count,
            candidate_value=self.candidate / self.count if self.count else None,
            control_value=self.control / self.count if self.count else None,
            effect=self.total / self.count if self.count else None,
            e_value=exp(self.log_worse),
            noninferiority_e_value=exp(mirrored),
            still_needed=_needed(mirrored, self.count, log_goal),
        )


class PairsJudge:
    """Fold pairs into one verdict; `alpha` is the chance of ever calling a harmless one worse."""

    def __init__(self, policy: Policy, *, alpha: float) -> None:
        check = policy.pairs
        self._check = check
        self._alpha = alpha
        self._beta = policy.beta
        self._compared = {name: _Compared(check.margin) for name in ("errors", "latency", "length")}
        if check.score is not None:
            self._compared["score"] = _Compared(check.margin)
        if check.overlap is not None:
            greatest = check.overlap
            self._compared["overlap"] = _Compared(0.0, greatest - 1.0, greatest)
        self._told = {"overlap_at_k": _Told(), "rank_biased_overlap": _Told()}
        self.pairs = 0

    def absorb(self, pairs: Iterable[Pair]) -> None:
        """In the order in which they were complete."""
        for pair in pairs:
            if Outcome.CANCELLED in (pair.served.outcome, pair.mirror.outcome):
                continue  # nobody knows how it would have ended
            self.pairs += 1
            self._absorb_errors(pair)
            if _failed(pair.served) or _failed(pair.mirror):
                continue  # its latency and its text are those of a failure
            self._absorb_answers(pair.mirror, pair.served)

    def _absorb_errors(self, pair: Pair) -> None:
        candidate, control = float(_failed(pair.mirror)), float(_failed(pair.served))
        self._compared["errors"].absorb(candidate - control, candidate, control)

    def _absorb_answers(self, candidate: PairSide, control: PairSide) -> None:
        check = self._check
        self._absorb_ratio("latency", candidate.latency_us, control.latency_us, check.latency)
        if candidate.answer_chars is not None and control.answer_chars is not None:
            # Shorter is worse: an answer that lost its end, or its sources.
            self._absorb_ratio("length", candidate.answer_chars, control.answer_chars,
                               check.length, sign=-1)  # fmt: skip
        scores = candidate.relevance_score, control.relevance_score
        if check.score is not None and scores[0] is not None and scores[1] is not None:
            gap = scores[1] - scores[0]
            d = 1.0 if gap > check.score else -1.0 if gap < -check.score else 0.0
            self._compared["score"].absorb(d, scores[0], scores[1])
        if candidate.retrieved_ids or control.retrieved_ids:
            self._absorb_documents(candidate.retrieved_ids, control.retrieved_ids)

    def _absorb_ratio(
        self, name: str, candidate: float, control: float, tolerance: float, sign: int = 1
    ) -> None:
        """1 is added to both: an answer may be empty."""
        ratio = log((candidate + 1) / (control + 1)) * sign
        limit = log(1 + tolerance)
        d = 1.0 if ratio > limit else -1.0 if ratio < -limit else 0.0
        self._compared[name].absorb(d, candidate, control)

    def _absorb_documents(self, candidate: Sequence[str], control: Sequence[str]) -> None:
        overlap = overlap_at(self._check.top, candidate, control)
        self._told["overlap_at_k"].absorb(overlap)
        ranked = rank_biased_overlap(candidate, control, self._check.top)
        self._told["rank_biased_overlap"].absorb(ranked)
        if self._check.overlap is not None:
            self._compared["overlap"].absorb(self._check.overlap - overlap, overlap, 1.0)

    def judgement(self) -> Judgement:
        """What the pairs say now."""
        goal = -log(self._beta)
        results = {name: one.result(goal) for name, one in self._compared.items() if one.count}
        # Of all that may be compared: weights that follow what was seen first promise nothing.
        total = sum(exp(one.log_worse) for one in self._compared.values()) / len(self._compared)
        shown = results | {name: one.result() for name, one in self._told.items() if one.count}
        verdict, reasons = self._decide(results, total)
        return Judgement(verdict=verdict, reasons=reasons, checks=shown, e_value=total)

    def _decide(
        self, results: dict[str, CheckResult], total: float
    ) -> tuple[Verdict, tuple[str, ...]]:
        if not self.pairs:
            why = "no query was answered twice yet: do the gateways mirror to the canary?"
            return Verdict.UNDECIDED, (why,)
        if total >= 1 / self._alpha:
            worst = max(results, key=lambda name: results[name].e_value)
            return Verdict.REGRESSED, (
                f"pairs, {worst}: {self._said(worst, results[worst])} "
                f"(e-value {total:.3g}, limit {1 / self._alpha:.3g})",
            )
        missing = tuple(
            f"pairs, {name}: {_still(one)}"
            for name, one in results.items()
            if one.noninferiority_e_value < 1 / self._beta
        )
        if missing:
            return Verdict.UNDECIDED, missing
        told = "; ".join(f"{name} {self._said(name, one)}" for name, one in results.items())
        return Verdict.HEALTHY, (f"{self.pairs} pairs prove no harm: {told}",)

    def _said(self, name: str, one: CheckResult) -> str:
        if name == "overlap":
            return (
                f"mean {one.candidate_value:.2f} over {one.candidate_count} pairs, "
                f"at least {self._check.overlap} expected"
            )
        return (
            f"net {one.effect:+.1%} of {one.candidate_count} pairs worse, "
            f"margin {self._check.margin:.1%}"
        )


class _Told:
    """A mean that is shown and not judged."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0

    def absorb(self, value: float) -> None:
        self.count += 1
        self.total += value

    def result(self) -> CheckResult:
        mean = self.total / self.count
        return CheckResult(
            candidate_count=self.count,
            control_count=self.count,
            candidate_value=mean,
            control_value=1.0,
            effect=mean - 1.0,
            e_value=1.0,
            noninferiority_e_value=1.0,
            still_needed=None,
        )


def overlap_at(top: int, one: Sequence[str], other: Sequence[str]) -> float:
    """Part of the top documents that both found; 1 where neither found any."""
    first, second = set(one[:top]), set(other[:top])
    longest = max(len(first), len(second))
    return len(first & second) / longest if longest else 1.0


def rank_biased_overlap(one: Sequence[str], other: Sequence[str], top: int) -> float:
    """Extrapolated rank-biased overlap of two rankings to depth `top` (Webber et al. 2010, eq. 30).

    1 for equal rankings, 0 for disjoint ones.
    """
    depth = min(top, max(len(one), len(other)))
    if not depth:
        return 1.0
    seen_one: set[str] = set()
    seen_other: set[str] = set()
    total, agreement = 0.0, 0.0
    for rank in range(1, depth + 1):
        seen_one.update(one[rank - 1 : rank])
        seen_other.update(other[rank - 1 : rank])
        agreement = len(seen_one & seen_other) / rank
        total += PERSISTENCE ** (rank - 1) * agreement
    return float((1 - PERSISTENCE) * total + agreement * PERSISTENCE**depth)


def _failed(side: PairSide) -> bool:
    return side.outcome in ERROR_OUTCOMES


def _needed(log_value: float, count: int, log_goal: float) -> int | None:
    if log_value >= log_goal:
        return 0
    if log_value <= 0 or not count:
        return None
    return round((log_goal - log_value) * count / log_value) or 1


def _still(one: CheckResult) -> str:
    more = "not yet known how many more are needed"
    if one.still_needed is not None:
        more = f"about {one.still_needed} more needed at this margin"
    return f"{one.candidate_count} pairs, {more}"
