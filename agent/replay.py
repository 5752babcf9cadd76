"""Judge a release, or any stretch of traffic, again from the log: for the console and the CLI."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from agent.judge import Judgement
from agent.moments import iso, unix_s
from agent.policy import Policy, SetMirror
from agent.rehearsal import Ending, Moment, Past, Rehearsal, without_people
from agent.watch import sliced
from mlops.contracts.evidence import Evidence, Pair
from mlops.contracts.release import ReleaseStatus
from mlops.feature_store.splits import Split

READ_S: Final = 900
"""Seconds of the log in one read."""

MAX_SPAN_S: Final = 31 * 86_400
"""A release and its bake; a longer stretch is taken for a mistake."""

MAX_PAIRS: Final = 1_000_000
"""In one read."""


class ReplayLog(Protocol):
    """The log, as far as it is judged again. All raise Unavailable and Refused."""

    async def read_splits(self, route: str, *, since: int, until: int) -> Sequence[Split]:
        """Which generations there were, oldest first, and how each split the traffic."""

    async def read_evidence(self, route: str, *, since: int, until: int | None = None) -> Evidence:
        """As `EvidenceLog.read_evidence`."""

    async def read_pairs(self, route: str, *, since: int, until: int, limit: int) -> Sequence[Pair]:
        """As `EvidenceLog.read_pairs`."""


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds of one route's traffic (Unix time), both included."""

    route: str
    since: int
    until: int

    def __post_init__(self) -> None:
        if not 0 < self.until - self.since <= MAX_SPAN_S:
            days = MAX_SPAN_S // 86_400
            raise ValueError(
                f"expected an end after the beginning and at most {days} days later, got "
                f"{iso(self.since)} to {iso(self.until)}"
            )

    @classmethod
    def of(cls, release: ReleaseStatus, now_s: float) -> Span:
        """From its beginning to its end, or so far."""
        until = unix_s(release.ended_at) if release.ended_at else now_s
        return cls(release.route, int(unix_s(release.started_at)), int(until))


class NothingToReplay(LookupError):
    """The log has no canary and no holdback of the route in that time."""


class Replay:
    """One policy's judgement of one span. Methods raise what the log raises."""

    def __init__(self, log: ReplayLog, span: Span, policy: Policy, past: Past) -> None:
        self._log = log
        self._span = span
        self._has_pairs = any(isinstance(step, SetMirror) for step in policy.steps)
        self._rehearsal = Rehearsal(without_people(policy), past)
        self.read_through = span.since - 1
        """The last second that was judged."""

    @classmethod
    async def of(cls, log: ReplayLog, span: Span, policy: Policy) -> Replay:
        """Raises NothingToReplay."""
        return cls(log, span, policy, await _past(log, span))

    @property
    def judgement(self) -> Judgement | None:
        """The latest."""
        return self._rehearsal.judgement

    @property
    def share_bp(self) -> int:
        """What the log says was asked for the arm beside stable, at the second read last."""
        return self._rehearsal.share_bp

    async def run(self) -> AsyncGenerator[tuple[Moment, ...]]:
        """What changed in each second, in order; ends where nothing that follows can matter."""
        async for tick, pairs in self._ticks():
            moments = tuple(self._rehearsal.feed(tick, pairs))
            self.read_through = tick.closed_through
            yield moments
            if self._rehearsal.release.phase.is_ended or self._rehearsal.is_over:
                return

    def ending(self) -> Ending:
        """How it ended, as far as was read."""
        return self._rehearsal.ending()

    async def _ticks(self) -> AsyncIterator[tuple[Evidence, tuple[Pair, ...]]]:
        """The log, a second at a time: as the agent would have seen it."""
        route, since, last = self._span.route, self._span.since, self._span.until
        while since <= last:
            until = min(since + READ_S - 1, last)
            evidence = await self._log.read_evidence(route, since=since, until=until)
            closed = evidence.closed_through
            if closed < since:
                return
            pairs: Sequence[Pair] = ()
            if self._has_pairs:
                pairs = await self._log.read_pairs(
                    route, since=since, until=closed, limit=MAX_PAIRS
                )
            waiting = deque(pairs)
            for tick in sliced(evidence, 1):
                yield tick, tuple(_through(waiting, tick.closed_through))
            since = closed + 1


async def _past(log: ReplayLog, span: Span) -> Past:
    found = await log.read_splits(span.route, since=span.since, until=span.until)
    split = [one for one in found if one.has_canary or one.has_holdback]
    if not split:
        raise NothingToReplay(f"route {span.route!r} had no canary and no holdback then")
    first = split[0]
    versions = (first.stable_version, first.other_version)
    stable, candidate = versions if first.has_canary else versions[::-1]
    return Past(
        route=span.route,
        stable=stable or "stable",
        candidate=candidate or "canary",
        since_s=span.since,
        shares={one.generation: one.share_bp for one in split if one.has_canary},
        holdback_shares={one.generation: one.share_bp for one in split if one.has_holdback},
    )


def _through(pairs: deque[Pair], last: int) -> Iterator[Pair]:
    """Take from the left what ended in second `last` or before; the log answers in order."""
    while pairs and pairs[0].ended_at_us // 1_000_000 <= last:
        yield pairs.popleft()
