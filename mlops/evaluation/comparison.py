"""Is the candidate better than what serves now, beyond chance, and nowhere worse? Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mlops.evaluation.metrics import Estimate, Ranks, estimates, gain
from mlops.evaluation.slices import Mask


class Answer(StrEnum):
    """Of a comparison: only `BETTER` lets the candidate go on to a release."""

    BETTER = "better"
    NOT_BETTER = "not_better"
    SLICE_WORSE = "slice_worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceResult:
    """One slice: the candidate's and the baseline's MRR, and the paired gain."""

    name: str
    queries: int
    candidate: float
    baseline: float
    gain: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that was measured on the held-out queries."""

    queries: int
    candidate: str
    baseline: str
    measures: Mapping[str, Mapping[str, Estimate]]
    """By model, by measure."""
    gain: Estimate
    """In MRR, of the candidate over the baseline."""
    slices: tuple[SliceResult, ...]
    answer: Answer
    sentence: str


def compare(
    ranks: Mapping[str, Ranks],
    *,
    candidate: str,
    baseline: str,
    slices: Mapping[str, Mask],
    slice_margin: float,
    seed: int,
) -> Comparison:
    """Compare two of the models in `ranks`, each with the ranks of the same held-out queries.

    Better: the 95 % interval of the paired gain in MRR lies above zero. A slice is worse where its
    interval lies below zero and its mean gain below `-slice_margin`.
    """
    overall = gain(ranks[candidate], ranks[baseline], seed)
    results = tuple(
        SliceResult(
            name=name,
            queries=int(mask.sum()),
            candidate=float((1 / ranks[candidate][mask]).mean()),
            baseline=float((1 / ranks[baseline][mask]).mean()),
            gain=gain(ranks[candidate][mask], ranks[baseline][mask], seed),
        )
        for name, mask in slices.items()
    )
    worse = [one for one in results if one.gain.high < 0 and one.gain.value < -slice_margin]
    answer, sentence = _answer(overall, worse, baseline, len(ranks[candidate]))
    return Comparison(
        queries=len(ranks[candidate]),
        candidate=candidate,
        baseline=baseline,
        measures={name: estimates(found, seed) for name, found in ranks.items()},
        gain=overall,
        slices=results,
        answer=answer,
        sentence=sentence,
    )


def _answer(
    overall: Estimate, worse: list[SliceResult], baseline: str, queries: int
) -> tuple[Answer, str]:
    measured = (
        f"MRR {overall.value:+.3f} over {baseline}, 95 % interval "
        f"{overall.low:+.3f} to {overall.high:+.3f}, on {queries:,} held-out queries"
    )
    if not overall.is_gain:
        return Answer.NOT_BETTER, f"{measured}: not clear of chance"
    if worse:
        named = "; ".join(
            f"{one.name} {one.gain.value:+.3f} ({one.gain.low:+.3f} to {one.gain.high:+.3f}, "
            f"{one.queries:,} queries)"
            for one in worse
        )
        return Answer.SLICE_WORSE, f"{measured}, but worse in {named}"
    return Answer.BETTER, f"{measured}: better, and no slice is worse"
