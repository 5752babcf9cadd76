"""What the judge's tests are fed: counts as arrays whose first axis is the case.

Cases are runs, one block of each, or blocks of one release: see `running`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


def chunk_of(blocks: Sequence[Block], histograms: Iterable[str], score: str | None) -> Chunk:
    """Blocks and looks in the order of the log.

    `histograms` names those that are needed, `score` the score.
    """
    whole = [block for block in blocks if not block.guard_only]
    looks = [block for block in blocks if block.guard_only]
    is_moment = np.array([not one.guard_only or one.candidate.errors > 0 for one in blocks], bool)
    is_look = np.array([one.guard_only for one in blocks], bool)
    ends = np.array([one.start_second + one.seconds - 1 for one in blocks], np.int64)
    return Chunk(
        blocks=block_counts(whole, histograms, score) if whole else None,
        looks=look_counts(looks),
        newest=max(((one.generation, one.share_bp) for one in whole), default=(-1, 0)),
        seconds=ends[is_moment],
        blocks_by=np.cumsum(~is_look)[is_moment],
        looks_by=np.cumsum(is_look)[is_moment],
    )


def block_counts(
    blocks: Sequence[Block], histograms: Iterable[str], score: str | None
) -> BlockCounts:
    """Blocks of one release."""
    names = tuple(histograms)
    return BlockCounts(
        candidate=_arms([one.candidate for one in blocks], names, score),
        control=_arms([one.control for one in blocks], names, score),
        share_bp=np.array([one.share_bp for one in blocks]),
        settled=np.array([one.settled for one in blocks]),
        start_second=np.array([one.start_second for one in blocks]),
    )


NO_LOOKS = Table(*np.zeros((4, 0), np.int64))


def look_counts(looks: Sequence[Block]) -> Table:
    """What the guard needs of seconds."""
    if not looks:
        return NO_LOOKS
    bad, of = RATE_COUNTS["errors"]
    arms = ([one.candidate for one in looks], [one.control for one in looks])
    return Table(*(_column(arm, name) for arm in arms for name in (of, bad)))


_COUNTED = tuple({name for pair in RATE_COUNTS.values() for name in pair} | set(TALLIES))


def _arms(arms: Sequence[ArmBlock], histograms: tuple[str, ...], score: str | None) -> ArmCounts:
    ended = _column(arms, "ended")
    counts = {name: _column(arms, name) for name in _COUNTED}
    briefly = np.maximum(0, ended - _column(arms, "ended_long"))
    counts["hanging_known"] = counts["hanging"] + briefly
    bins = {name: _dense([getattr(arm, name) for arm in arms], HISTOGRAM_BINS)
            for name in histograms}  # fmt: skip
    if score is not None:
        late = [arm.scores[score].bins if score in arm.scores else {} for arm in arms]
        bins["score_bins"] = _dense(late, SCORE_BINS)
        if score == ROW_SCORE:
            bins["score_bins"] += _dense([arm.score_bins for arm in arms], SCORE_BINS)
    return ArmCounts(
        ended=ended,
        counts=counts,
        bins=bins,
        request_groups=_dense([arm.request_groups for arm in arms], KEY_GROUPS),
        error_groups=_dense([arm.error_groups for arm in arms], KEY_GROUPS),
    )


def _column(arms: Sequence[ArmBlock], name: str) -> Ints:
    return np.array([getattr(arm, name) for arm in arms], np.int64)


def _dense(histograms: Sequence[Mapping[int, int]], length: int) -> Ints:
    dense = np.zeros((len(histograms), length), np.int64)
    for row, bins in zip(dense, histograms, strict=True):
        if bins:
            row[np.fromiter(bins, np.int64, len(bins))] = np.fromiter(
                bins.values(), np.int64, len(bins)
            )
    return dense
