"""What the judge's tests are fed: counts as arrays whose first axis is the case.

Cases are runs, one block of each, or blocks of one release: see `running`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from agent.judge.eprocess import Floats, Ints, Table
from agent.windows import ArmBlock, Block
from mlops.contracts.evidence import KEY_GROUPS, LAST_BIN, SCORE_BINS

HISTOGRAM_BINS = LAST_BIN + 1

ROW_SCORE = "relevance_score"
"""The score that rows carry themselves; every other one comes late, by name."""

RATE_COUNTS: Mapping[str, tuple[str, str]] = {
    "errors": ("errors", "requests"),
    "client_errors": ("client_errors", "requests"),
    "refusals": ("refusals", "refusal_known"),
    "empty_retrievals": ("empty_retrievals", "retrieval_known"),
}
"""By check: what is counted, of what."""

QUANTILE_BINS: Mapping[str, str] = {
    "latency": "latency_bins",
    "ttft": "first_byte_bins",
    "first_event": "first_event_bins",
    "gaps": "gap_bins",
    "answer_length": "answer_chars_bins",
    "tokens": "completion_token_bins",
}
"""By check: the histogram it is about."""

Moments = tuple[Floats, Floats, Floats]
"""Of scores, by case: how many, their sum, the sum of their squares."""


TALLIES = ("rows", "answered", "dropped", "hanging")
"""Counted besides."""


@dataclass(slots=True, kw_only=True)
class ArmCounts:
    """One arm. Shapes: (cases,), histograms (cases, bins), groups (cases, groups)."""

    ended: Ints
    counts: Mapping[str, Ints]
    """By the names in `RATE_COUNTS`; of one release over time also those in `TALLIES`."""
    bins: Mapping[str, Ints] = field(default_factory=dict)
    """By the names in `QUANTILE_BINS`, `cancelled_bins`, and `score_bins` of the score judged."""
    request_groups: Ints | None = None
    error_groups: Ints | None = None


@dataclass(slots=True, kw_only=True)
class BlockCounts:
    """A block of each run, or blocks of one release in the order of time."""

    candidate: ArmCounts
    control: ArmCounts
    share_bp: Ints
    """The candidate's asked part of both arms, by case."""
    settled: np.typing.NDArray[np.bool_]
    start_second: Ints | int
    """One for all runs."""


@dataclass(slots=True, kw_only=True)
class Chunk:
    """Consecutive seconds of one release, and the moments at which a verdict may change in them.

    That is where a block closed, or the guard saw an error of the candidate.
    """

    blocks: BlockCounts | None
    looks: Table
    """Of the guard, one for each second in which anything ended; arrays."""
    newest: tuple[int, int] = (-1, 0)
    """The newest generation of the blocks, and the candidate's share in it."""
    seconds: Ints
    """Of each moment, when it was over."""
    blocks_by: Ints
    """By moment: how many of the blocks there were by then."""
    looks_by: Ints


def chunk_of(block: Block, histograms: Iterable[str], score: str | None) -> Chunk:
    """One block, or one second for the guard."""
    if block.guard_only:
        moments = int(block.candidate.errors > 0)
        counts, looks = None, look_counts(block)
    else:
        moments = 1
        counts, looks = block_counts(block, histograms, score), NO_LOOKS
    return Chunk(
        blocks=counts,
        looks=looks,
        newest=(-1, 0) if counts is None else (block.generation, block.share_bp),
        seconds=np.full(moments, block.start_second + block.seconds - 1),
        blocks_by=np.full(moments, int(counts is not None)),
        looks_by=np.full(moments, int(counts is None)),
    )


def block_counts(block: Block, histograms: Iterable[str], score: str | None) -> BlockCounts:
    """One block of one release. `histograms` names those that are needed, `score` the score."""
    names = tuple(histograms)
    return BlockCounts(
        candidate=_arm(block.candidate, names, score),
        control=_arm(block.control, names, score),
        share_bp=np.array([block.share_bp]),
        settled=np.array([block.settled]),
        start_second=np.array([block.start_second]),
    )


NO_LOOKS = Table(*np.zeros((4, 0), np.int64))


def look_counts(block: Block) -> Table:
    """What the guard needs of a second."""
    names = RATE_COUNTS["errors"][::-1]
    arms = (block.candidate, block.control)
    return Table(*(np.array([getattr(arm, name)]) for arm in arms for name in names))


def _arm(arm: ArmBlock, histograms: tuple[str, ...], score: str | None) -> ArmCounts:
    needed = {name for pair in RATE_COUNTS.values() for name in pair} | set(TALLIES)
    counts = {name: np.array([getattr(arm, name)]) for name in needed}
    counts["hanging_known"] = np.array([arm.hanging + max(0, arm.ended - arm.ended_long)])
    bins = {name: _dense(getattr(arm, name), HISTOGRAM_BINS) for name in histograms}
    if score is not None:
        bins["score_bins"] = _dense(
            arm.scores[score].bins if score in arm.scores else {}, SCORE_BINS
        )
        if score == ROW_SCORE:
            bins["score_bins"] += _dense(arm.score_bins, SCORE_BINS)
    return ArmCounts(
        ended=np.array([arm.ended]),
        counts=counts,
        bins=bins,
        request_groups=_dense(arm.request_groups, KEY_GROUPS),
        error_groups=_dense(arm.error_groups, KEY_GROUPS),
    )


def _dense(bins: Mapping[int, int], length: int) -> Ints:
    dense = np.zeros((1, length), np.int64)
    if bins:
        dense[0, np.fromiter(bins, np.int64, len(bins))] = np.fromiter(
            bins.values(), np.int64, len(bins)
        )
    return dense
