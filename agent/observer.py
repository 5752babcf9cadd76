"""Read the log and judge it: for each release the evidence of its phase, folded as it comes.

Nothing here is remembered. After a restart the same seconds are read again, and give the same
judgement.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Protocol, TypeVar

from msgspec.structs import replace

from agent.judge import Judge, Judgement
from agent.policy import Policy
from agent.release import Phase, Release, Sight
from agent.windows import Cutter, Roles
from mlops.contracts.evidence import AnsweredCounts, Evidence, ScoreCounts, SecondCounts
from mlops.contracts.plan import Arm
from mlops.feature_store.errors import Refused, Unavailable

log = logging.getLogger(__name__)

_Counts = TypeVar("_Counts", SecondCounts, AnsweredCounts, ScoreCounts)

STEPS_PART_OF_ALPHA = 0.8
"""Of the chance of a false rollback; bake has the rest. Together at most alpha."""

READ_TIMEOUT_S = 5.0
"""Longest that reading may keep a cycle. A read that needs more counts as no evidence."""

REBUILD_TIMEOUT_S = 20.0
"""The same where hours are read again after a restart."""

REBUILD_FROM_S = 600

SLICE_S = 60
"""Seconds judged at a time: about 25 ms of CPU."""

WORK_S = 0.2
"""Longest that judging may keep a cycle; the rest waits for the next one. Until all is judged the
evidence counts as old, so nothing advances and no lease is renewed meanwhile."""


class EvidenceLog(Protocol):
    async def read_evidence(
        self, route: str, *, since: int, until: int | None = None, release_id: str | None = None
    ) -> Evidence: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """The evidence of a release as of now."""

    judgement: Judgement
    closed_through_s: float
    canary_requests: int


class _Watch:
    """One phase of one release."""

    def __init__(self, release: Release, policy: Policy) -> None:
        is_baking = release.phase is Phase.BAKING
        self.phase = release.phase
        self.since = int((release.promoted_at_s if is_baking else None) or release.started_at_s)
        self.closed_through = self.since - 1
        """Judged up to here."""
        self.next_second = self.since
        """To be read from here on."""
        self.candidate_requests = 0
        self._waiting: deque[Evidence] = deque()
        """Read and not judged yet; bounded by the length of the release."""
        self._roles = Roles.BAKE if is_baking else Roles.STEPS
        self._cutter = Cutter(policy, self._roles)
        part = 1 - STEPS_PART_OF_ALPHA if is_baking else STEPS_PART_OF_ALPHA
        self._judge = Judge(policy, alpha=policy.alpha * part)
        self._last_split_second: dict[int, int] = {}
        """By generation, the last second in which the arm that is not stable answered."""

    def take(self, evidence: Evidence, lapsed: frozenset[int]) -> None:
        """Keep what was read, in slices."""
        if evidence.closed_through >= self.next_second:
            self._waiting.extend(_sliced(self._without_lapses(evidence, lapsed)))
            self.next_second = evidence.closed_through + 1

    def absorb(self, shares: Mapping[int, int], until_s: float) -> None:
        """Judge at least one slice, and more until `until_s` on the monotonic clock."""
        while self._waiting:
            evidence = self._waiting.popleft()
            for block in self._cutter.feed(evidence, shares):
                self._judge.absorb(block)
                if not block.guard_only:
                    self.candidate_requests += block.candidate.ended
            self.closed_through = evidence.closed_through
            if monotonic() >= until_s:
                return

    def judgement(self, share_bp: int) -> Judgement:
        return self._judge.judgement(self._roles.candidate_share_bp(share_bp))

    def _without_lapses(self, evidence: Evidence, lapsed: frozenset[int]) -> Evidence:
        """Drop what a generation did after its lease had ended: it was not split then.

        The end of a lease is not in the log, but the other arm's last answer is.
        """
        last = self._last_split_second
        for counts in evidence.answered:
            if counts.arm != Arm.STABLE and counts.answered:
                known = last.get(counts.generation, counts.second)
                last[counts.generation] = max(known, counts.second)
        if not lapsed:
            return evidence

        def is_split(generation: int, second: int) -> bool:
            return generation not in lapsed or second <= last.get(generation, -1)

        return replace(
            evidence,
            seconds=tuple(c for c in evidence.seconds if is_split(c.generation, c.second)),
            answered=tuple(c for c in evidence.answered if is_split(c.generation, c.second)),
        )


class Observer:
    """The evidence of all active releases."""

    def __init__(self, evidence_log: EvidenceLog, scores_through: Callable[[float], int]) -> None:
        """`scores_through` gives, of a time, the last second whose late scores are all stored."""
        self._log = evidence_log
        self._scores_through = scores_through
        self._watches: dict[str, _Watch] = {}

    async def observe(
        self, release: Release, policy: Policy, sights: tuple[Sight, ...], now_s: float
    ) -> Seen | None:
        """Read on from where the last cycle ended; None where there never was evidence.

        Without an answer from the log this is what was known before, and it ages.
        """
        plan = release.plan
        if release.phase.is_ended or plan is None:
            return None
        watch = self._watches.get(release.id)
        if watch is None or watch.phase is not release.phase:
            watch = self._watches[release.id] = _Watch(release, policy)
        behind_s = now_s - watch.next_second
        timeout_s = READ_TIMEOUT_S if behind_s < REBUILD_FROM_S else REBUILD_TIMEOUT_S
        try:
            async with asyncio.timeout(timeout_s):
                evidence = await self._log.read_evidence(
                    release.route,
                    since=watch.next_second,
                    until=self._scores_through(now_s),
                    release_id=release.id,
                )
        except (Unavailable, TimeoutError) as error:
            log.warning("%s: no evidence: %s", release.id, str(error) or "the log did not answer")
        except Refused as error:
            log.error("%s: the log refuses to be read: %s", release.id, error)  # noqa: TRY400
        else:
            watch.take(evidence, _lapsed(release, sights))
        watch.absorb(release.shares, monotonic() + WORK_S)
        if watch.closed_through < watch.since:
            return None
        is_baking = release.phase is Phase.BAKING
        share_bp = plan.holdback_share_bp if is_baking else plan.canary_share_bp
        return Seen(
            judgement=watch.judgement(share_bp),
            closed_through_s=float(watch.closed_through),
            canary_requests=(release.canary_requests if is_baking else watch.candidate_requests),
        )

    def forget(self, known: set[str]) -> None:
        """Keep only the releases named."""
        for release_id in self._watches.keys() - known:
            self._watches.pop(release_id, None)


def _sliced(evidence: Evidence) -> Iterator[Evidence]:
    """The same, `SLICE_S` seconds at a time."""
    if evidence.closed_through - evidence.since < SLICE_S:
        yield evidence
        return
    seconds, answered = deque(evidence.seconds), deque(evidence.answered)
    scores = deque(evidence.scores)
    for since in range(evidence.since, evidence.closed_through + 1, SLICE_S):
        last = min(since + SLICE_S - 1, evidence.closed_through)
        yield Evidence(
            route=evidence.route,
            since=since,
            closed_through=last,
            seconds=tuple(_through(seconds, last)),
            answered=tuple(_through(answered, last)),
            scores=tuple(_through(scores, last)),
        )


def _through(ordered: deque[_Counts], last: int) -> Iterator[_Counts]:
    """Take from the left what is dated `last` or before; the log answers in order of time."""
    while ordered and ordered[0].second <= last:
        yield ordered.popleft()


def _lapsed(release: Release, sights: tuple[Sight, ...]) -> frozenset[int]:
    """Generations of the release that were, or are, in force with their lease ended."""
    now = {
        sight.plan.generation
        for sight in sights
        if sight.plan is not None and sight.lease_remaining_s == 0
    }
    return frozenset(release.lapsed_generations) | now
