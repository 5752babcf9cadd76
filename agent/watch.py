"""One phase of one release: the log's evidence, folded through the judge as it comes. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from agent.judge import Judge, Judgement
from agent.pairs import PairsJudge
from agent.policy import Policy, SetMirror
from agent.release import Phase, Release
from agent.windows import Cutter, Roles
from mlops.contracts.evidence import AnsweredCounts, Evidence, Pair, ScoreCounts, SecondCounts
from mlops.contracts.plan import Arm

_Counts = TypeVar("_Counts", SecondCounts, AnsweredCounts, ScoreCounts)

PARTS_OF_ALPHA = {"steps": 0.8, "bake": 0.2}
"""Of the chance of a false rollback. Together at most alpha."""

PARTS_WITH_MIRROR = {"mirror": 0.2, "steps": 0.6, "bake": 0.2}
"""The same where a step mirrors."""

SLICE_S = 60
"""Seconds judged at a time: a few milliseconds of CPU."""


def part_of_alpha(policy: Policy, what: str) -> float:
    """What `mirror`, `steps` or `bake` may spend."""
    mirrors = any(isinstance(step, SetMirror) for step in policy.steps)
    return policy.alpha * (PARTS_WITH_MIRROR if mirrors else PARTS_OF_ALPHA)[what]


def since_of(release: Release) -> int:
    """The first second of the evidence of the release's phase."""
    is_baking = release.phase is Phase.BAKING
    return int((release.promoted_at_s if is_baking else None) or release.started_at_s)


class Watch:
    """Evidence is taken as it was read, and judged a slice at a time."""

    def __init__(self, release: Release, policy: Policy, roles: Roles | None = None) -> None:
        """`roles` are those of the phase, unless the log has other arms than the agent's own."""
        is_baking = release.phase is Phase.BAKING
        self.phase = release.phase
        self.since = since_of(release)
        self.closed_through = self.since - 1
        """Judged up to here."""
        self.next_second = self.since
        """To be read from here on."""
        self.candidate_requests = 0
        self._parts: list[Evidence] = []
        """Read, where more has closed."""
        self._waiting: deque[Evidence] = deque()
        """Read and not judged yet; bounded by the length of the release."""
        self.roles = roles or (Roles.BAKE if is_baking else Roles.STEPS)
        self._cutter = Cutter(policy, self.roles)
        self.judge = Judge(policy, alpha=part_of_alpha(policy, "bake" if is_baking else "steps"))
        self._last_split_second: dict[int, int] = {}
        """By generation, the last second in which the arm that is not stable answered."""

    def take(self, evidence: Evidence, lapsed: frozenset[int], *, is_part: bool = False) -> None:
        """Keep what was read, in slices.

        With `is_part` more has closed and is yet to be read. Parts wait for the last one: an arm
        that is silent to the end of a part may answer in the next, so its lease has not ended.
        """
        if evidence.closed_through >= self.next_second:
            self._note_split(evidence)
            self._parts.append(evidence)
            self.next_second = evidence.closed_through + 1
        if is_part:
            return
        for part in self._parts:
            self._waiting.extend(sliced(self._without_lapses(part, lapsed), SLICE_S))
        self._parts.clear()

    def absorb(self, shares: Mapping[int, int], has_time: Callable[[], bool]) -> None:
        """Judge at least one slice, and more while there is time."""
        while self._waiting:
            evidence = self._waiting.popleft()
            blocks = self._cutter.feed(evidence, shares)
            self.judge.absorb(*blocks)
            self.candidate_requests += sum(
                block.candidate.ended for block in blocks if not block.guard_only
            )
            self.closed_through = evidence.closed_through
            if not has_time():
                return

    def judgement(self, share_bp: int) -> Judgement:
        """What the evidence says now; `share_bp` is asked for the arm that is not stable."""
        return self.judge.judgement(self.roles.candidate_share_bp(share_bp))

    def _note_split(self, evidence: Evidence) -> None:
        last = self._last_split_second
        for counts in evidence.answered:
            if counts.arm != Arm.STABLE and counts.answered:
                known = last.get(counts.generation, counts.second)
                last[counts.generation] = max(known, counts.second)

    def _without_lapses(self, evidence: Evidence, lapsed: frozenset[int]) -> Evidence:
        """Drop what a generation did after its lease had ended: it was not split then.

        The end of a lease is not in the log, but the other arm's last answer is.
        """
        if not lapsed:
            return evidence
        last = self._last_split_second

        def is_split(generation: int, second: int) -> bool:
            return generation not in lapsed or second <= last.get(generation, -1)

        return replace(
            evidence,
            seconds=tuple(c for c in evidence.seconds if is_split(c.generation, c.second)),
            answered=tuple(c for c in evidence.answered if is_split(c.generation, c.second)),
        )


class PairsWatch:
    """The steps of a release that mirror: pairs of answers, each taken once."""

    def __init__(self, release: Release, policy: Policy) -> None:
        self.judge = PairsJudge(policy, alpha=part_of_alpha(policy, "mirror"))
        self.since = self.next_second = int(release.started_at_s)
        self._version = release.candidate.version
        self._stable = release.base.version if release.base else ""

    def take(self, found: Sequence[Pair], closed_through: int, limit: int) -> None:
        """Pairs from `next_second` on; a read that was cut off ends with its last whole second."""
        through = closed_through
        if len(found) >= limit:
            last = found[-1].ended_at_us // 1_000_000
            through = last - 1 if last > self.next_second else last
        self.judge.absorb(
            pair
            for pair in found
            if pair.ended_at_us // 1_000_000 <= through
            and pair.mirror.version == self._version
            and pair.served.version == self._stable
        )
        self.next_second = through + 1


def sliced(evidence: Evidence, seconds: int) -> Iterator[Evidence]:
    """The same, so many seconds at a time."""
    if evidence.closed_through - evidence.since < seconds:
        yield evidence
        return
    counts, answered = deque(evidence.seconds), deque(evidence.answered)
    scores = deque(evidence.scores)
    for since in range(evidence.since, evidence.closed_through + 1, seconds):
        last = min(since + seconds - 1, evidence.closed_through)
        yield Evidence(
            route=evidence.route,
            since=since,
            closed_through=last,
            seconds=tuple(_through(counts, last)),
            answered=tuple(_through(answered, last)),
            scores=tuple(_through(scores, last)),
        )


def _through(ordered: deque[_Counts], last: int) -> Iterator[_Counts]:
    """Take from the left what is dated `last` or before; the log answers in order of time."""
    while ordered and ordered[0].second <= last:
        yield ordered.popleft()
