"""Rows of any log, cut into the blocks of a release many at a time. Pure.

Gives what `Cutter` gives of the same rows second by second, from columns: a million rows thin over
a week are half a million seconds, too many to be looked at one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from agent.judge.counts import (
    HISTOGRAM_BINS,
    NO_LOOKS,
    RATE_COUNTS,
    ArmCounts,
    BlockCounts,
    Chunk,
)
from agent.judge.eprocess import Table
from agent.policy import Policy
from agent.rehearsal import Past
from agent.row_columns import (
    ARMS,
    CLIENT_GONE,
    RowColumns,
    duration_bins,
    generations_of,
    score_bins,
)
from agent.windows import LONG_BIN, Roles, open_for_s
from mlops.contracts.evidence import KEY_GROUPS, SCORE_BINS
from mlops.contracts.plan import Arm

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

BLOCKS_AT_ONCE = 256
"""Some megabytes of histograms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Seconds of the log, and what the judge learns of them.

    The first moment of the chunk, where it has one, is in the first second.
    """

    since: int
    through: int
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Needed:
    """What the judge needs of each block."""

    histograms: tuple[str, ...]
    score: str | None


class RowLog:
    """A whole log. Every second has one generation: the stretch of one weight that it lies in."""

    def __init__(self, rows: RowColumns) -> None:
        self.rows = rows
        self.second: Ints = np.floor(rows.ts).astype(np.int64)
        self.since, self.through = int(self.second[0]), int(self.second[-1])
        by_second, self._shares = generations_of(self.second, rows.weight)
        seconds, counts = np.unique(self.second, return_counts=True)
        generation = np.array([by_second[one] for one in seconds.tolist()], np.int64)
        self.generation: Ints = np.repeat(generation, counts)
        changed = np.flatnonzero(np.diff(generation, prepend=0))
        self.changes: tuple[tuple[int, int], ...] = tuple(
            (int(seconds[at]), self._shares[int(generation[at])]) for at in changed
        )
        """Seconds from which on another share is asked for, and it."""
        self.gone: Bools = rows.status == CLIENT_GONE
        self.failed: Bools = (rows.status >= 500) | (rows.status == 429)

    @cached_property
    def past(self) -> Past:
        """Which generations had a canary, and which the holdback instead."""
        more: Counter[int] = Counter()
        for arm, sign in ((Arm.HOLDBACK, 1), (Arm.CANARY, -1)):
            mine = self.rows.arm == ARMS.index(arm)
            for generation, count in enumerate(np.bincount(self.generation[mine]).tolist()):
                more[generation] += sign * count
        return Past(
            since_s=self.since,
            shares={key: share for key, share in self._shares.items() if more[key] <= 0},
            holdback_shares={key: share for key, share in self._shares.items() if more[key] > 0},
        )

    def canary_requests(self, through: int) -> int:
        """Ended in the canary by the end of this second."""
        return int(np.searchsorted(self._canary_seconds, through, "right"))

    @cached_property
    def _canary_seconds(self) -> Ints:
        judged = np.isin(self.generation, list(self.past.shares))
        return np.asarray(self.second[judged & (self.rows.arm == ARMS.index(Arm.CANARY))])

    @cached_property
    def bins(self) -> Mapping[str, tuple[Ints, Bools]]:
        """By histogram: the bin of every row, and of which rows it is known."""
        rows, timed, ended = self.rows, ~np.isnan(self.rows.latency_ms), ~self.gone
        latency = duration_bins(rows.latency_ms)
        found = {
            "latency_bins": (latency, timed & ended),
            "cancelled_bins": (latency, timed & self.gone),
        }
        if rows.ttft_ms is not None:
            known = ~np.isnan(rows.ttft_ms) & ended
            found["first_byte_bins"] = duration_bins(rows.ttft_ms), known
        if rows.score is not None:
            found["score_bins"] = score_bins(rows.score), ~np.isnan(rows.score) & ended
        return found

    def stretches(
        self,
        policy: Policy,
        roles: Roles,
        shares: Mapping[int, int],
        since: int,
        needed: Needed,
    ) -> Iterator[Stretch]:
        """From a second on, as a release in this phase would have seen it."""
        return _Phase(self, roles, shares, since).stretches(policy, needed)


class _Phase:
    """The rows that one judge is about, in the order of time."""

    def __init__(self, log: RowLog, roles: Roles, shares: Mapping[int, int], since: int) -> None:
        self._log, self._roles, self._shares, self._since = log, roles, shares, since
        sides = [ARMS.index(roles.candidate), ARMS.index(roles.control)]
        chosen = (log.second >= since) & np.isin(log.generation, list(shares))
        self._rows: Ints = np.flatnonzero(chosen & np.isin(log.rows.arm, sides))
        self._is_candidate: Bools = log.rows.arm[self._rows] == sides[0]
        seconds, first = np.unique(log.second[self._rows], return_index=True)
        self._seconds: Ints = seconds
        self._first: Ints = np.append(first, len(self._rows))
        """Of each second, the index of its first row."""
        self._looks: Ints = self._count_looks()

    def _count_looks(self) -> Ints:
        """By second, as in `Table`."""
        at = np.repeat(np.arange(len(self._seconds)), np.diff(self._first))
        ended, failed = ~self._log.gone[self._rows], self._log.failed[self._rows]
        masks = [
            arm & kind
            for arm in (self._is_candidate, ~self._is_candidate)
            for kind in (ended, failed)
        ]
        counts = [np.bincount(at[mask], minlength=len(self._seconds)) for mask in masks]
        return np.stack(counts)

    def stretches(self, policy: Policy, needed: Needed) -> Iterator[Stretch]:
        """All of the phase, some blocks at a time; first what is before anything can be said."""
        generation = self._log.generation[self._rows[self._first[:-1]]]
        cut = _cut(self._seconds, generation, np.diff(self._first), policy, self._log.through)
        moments = np.union1d(cut.closed, self._seconds[self._looks[1] > 0]).astype(np.int64)
        blocks_by = np.searchsorted(cut.closed, moments, "right")
        looks_by = np.searchsorted(self._seconds, moments, "right")
        ends = np.append(moments, self._log.through + 1).tolist()
        if self._since < ends[0]:
            yield Stretch(since=self._since, through=ends[0] - 1, chunk=_NOTHING)
        start = blocks = looks = 0
        while start < len(moments):
            end = int(np.searchsorted(blocks_by, blocks + BLOCKS_AT_ONCE)) + 1
            end = min(end, len(moments))
            upto, seen = int(blocks_by[end - 1]), int(looks_by[end - 1])
            chunk = Chunk(
                blocks=self._blocks(cut, blocks, upto, needed) if upto > blocks else None,
                looks=Table(*self._looks[:, looks:seen]),
                newest=(-1, 0) if upto == blocks else self._newest(cut, upto - 1),
                seconds=moments[start:end],
                blocks_by=blocks_by[start:end] - blocks,
                looks_by=looks_by[start:end] - looks,
            )
            yield Stretch(since=ends[start], through=ends[end] - 1, chunk=chunk)
            start, blocks, looks = end, upto, seen

    def _newest(self, cut: _Cut, block: int) -> tuple[int, int]:
        generation = int(cut.generation[block])
        return generation, self._roles.candidate_share_bp(self._shares[generation])

    def _blocks(self, cut: _Cut, start: int, end: int, needed: Needed) -> BlockCounts:
        bounds = self._first[cut.first[start : end + 1]]
        rows = slice(int(bounds[0]), int(bounds[-1]))
        block = np.repeat(np.arange(end - start), np.diff(bounds))
        mine = self._is_candidate[rows]
        asked = {one: self._roles.candidate_share_bp(bp) for one, bp in self._shares.items()}
        return BlockCounts(
            candidate=self._arm(self._rows[rows][mine], block[mine], end - start, needed),
            control=self._arm(self._rows[rows][~mine], block[~mine], end - start, needed),
            share_bp=np.array([asked[one] for one in cut.generation[start:end].tolist()]),
            settled=cut.settled[start:end],
            start_second=cut.start[start:end],
        )

    def _arm(self, rows: Ints, block: Ints, count: int, needed: Needed) -> ArmCounts:
        """Of rows, each with its block."""
        log = self._log
        gone, failed = log.gone[rows], log.failed[rows]
        status, group = log.rows.status[rows], log.rows.key_group[rows]

        def of(mask: Bools) -> Ints:
            return np.bincount(block[mask], minlength=count)

        def by(values: Ints, mask: Bools, width: int) -> Ints:
            index = block[mask] * width + values[mask]
            return np.bincount(index, minlength=count * width).reshape(count, width)

        def histogram(name: str, width: int = HISTOGRAM_BINS) -> Ints:
            if name not in log.bins:
                return np.zeros((count, width), np.int64)
            bins, known = log.bins[name]
            return by(bins[rows], known[rows], width)

        every = of(np.ones(len(rows), bool))
        latency, timed = log.bins["latency_bins"][0][rows], ~np.isnan(log.rows.latency_ms[rows])
        hanging = of(timed & (latency > LONG_BIN))
        counts = dict.fromkeys((one for pair in RATE_COUNTS.values() for one in pair), 0 * every)
        counts |= {
            "rows": every,
            "answered": every,  # a log of one's own has no tallies: it is taken to be all there was
            "dropped": 0 * every,
            "requests": of(~gone),
            "errors": of(failed),
            "client_errors": of((status >= 400) & ~failed & ~gone),
            "hanging": hanging,
            "hanging_known": every,
        }
        bins = {name: histogram(name) for name in needed.histograms}
        if needed.score is not None:
            bins["score_bins"] = histogram("score_bins", SCORE_BINS)
        return ArmCounts(
            ended=every,
            counts=counts,
            bins=bins,
            request_groups=by(group, ~gone, KEY_GROUPS),
            error_groups=by(group, failed, KEY_GROUPS),
        )


_NOTHING = Chunk(
    blocks=None,
    looks=NO_LOOKS,
    seconds=np.zeros(0, np.int64),
    blocks_by=np.zeros(0, np.int64),
    looks_by=np.zeros(0, np.int64),
)


@dataclass(slots=True, kw_only=True)
class _Cut:
    """The blocks of a phase, those that were complete by the end of the log."""

    start: Ints
    closed: Ints
    """The second by whose end each was complete."""
    settled: Bools
    generation: Ints
    first: Ints
    """Index of its first second that has rows; one more, of what comes after the last block."""


def _cut(seconds: Ints, generations: Ints, counts: Ints, policy: Policy, until: int) -> _Cut:
    """What `Cutter` does, from one second that has rows to the next."""
    block_s, settle_s = policy.block_s, max(policy.block_s, policy.settle_s)
    start, closed, settled, of, first = [], [], [], [], []
    is_open, generation, begun, ended, closes = False, -1, 0, 0, 0
    every = zip(seconds.tolist(), generations.tolist(), counts.tolist(), strict=True)
    for index, (second, now, count) in enumerate(every):
        if is_open and (closes < second or now != generation):
            closed.append(min(closes, second))
            is_open = False
        if now != generation:
            generation, begun = now, second
        if not is_open:
            is_open, ended = True, 0
            start.append(second)
            settled.append(second - begun >= settle_s)
            of.append(now)
            first.append(index)
        ended += count
        closes = start[-1] + open_for_s(ended, block_s) - 1
        if not settled[-1]:
            closes = min(closes, begun + settle_s - 1)
        if closes <= second:
            closed.append(second)
            is_open = False
    if is_open and closes <= until:
        closed.append(closes)
        is_open = False
    complete = len(closed)
    first.append(len(seconds))
    return _Cut(
        start=np.array(start[:complete], np.int64),
        closed=np.array(closed, np.int64),
        settled=np.array(settled[:complete], bool),
        generation=np.array(of[:complete], np.int64),
        first=np.array(first[: complete + 1], np.int64),
    )
