"""Cut the log's counts per second into blocks that the judge can compare. Pure.

A block lies within one generation and is closed by the clock or by how many requests ended, never
by how they ended: what closes a block may not depend on what is tested in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from agent.policy import Policy
from mlops.contracts.evidence import (
    LONG_OPEN_S,
    AnsweredCounts,
    Evidence,
    ScoreCounts,
    SecondCounts,
    latency_bin,
)
from mlops.contracts.plan import FULL_SHARE_BP, Arm

MIN_BLOCK_REQUESTS = 20
"""Below this a block stays open: at 1 request/s tiny blocks cost power and tell nothing sooner."""
MAX_BLOCK_S = 60
"""No block stays open longer: at low traffic a look a minute is what remains."""


def open_for_s(ended: int, block_s: int) -> int:
    """How many seconds a block stays open in which so many requests have ended."""
    return block_s if ended >= MIN_BLOCK_REQUESTS else max(block_s, MAX_BLOCK_S)


class Roles(Enum):
    """Which arm is judged, and against which."""

    STEPS = (Arm.CANARY, Arm.STABLE)
    BAKE = (Arm.STABLE, Arm.HOLDBACK)

    @property
    def candidate(self) -> Arm:
        """The arm that is judged."""
        return self.value[0]

    @property
    def control(self) -> Arm:
        """The arm it is judged against."""
        return self.value[1]

    def candidate_share_bp(self, share_bp: int) -> int:
        """The candidate's part of both arms, from the share of the arm that is not stable."""
        return share_bp if self is Roles.STEPS else FULL_SHARE_BP - share_bp


@dataclass(slots=True, kw_only=True)
class ScoreSums:
    """Late scores of one name, in 0..1: how many, their sums, and where they lie."""

    count: int = 0
    total: float = 0.0
    total_squares: float = 0.0
    bins: dict[int, int] = field(default_factory=dict)
    """By `score_bin`."""

    def add(self, counts: ScoreCounts) -> None:
        """Merge one second."""
        self.count += counts.count
        self.total += counts.total
        self.total_squares += counts.total_squares
        merge_bins(self.bins, counts.bins)


COUNT_FIELDS = (
    "rows",
    "requests",
    "errors",
    "client_errors",
    "cancelled",
    "refusals",
    "refusal_known",
    "empty_retrievals",
    "retrieval_known",
)
BIN_FIELDS = (
    "latency_bins",
    "first_byte_bins",
    "cancelled_bins",
    "first_event_bins",
    "gap_bins",
    "answer_chars_bins",
    "completion_token_bins",
    "score_bins",
    "request_groups",
    "error_groups",
)


@dataclass(slots=True, kw_only=True)
class ArmBlock:
    """What one arm did in one block. Names as in `SecondCounts`, `AnsweredCounts`."""

    rows: int = 0
    requests: int = 0
    errors: int = 0
    client_errors: int = 0
    cancelled: int = 0
    refusals: int = 0
    refusal_known: int = 0
    empty_retrievals: int = 0
    retrieval_known: int = 0
    answered: int = 0
    dropped: int = 0
    hanging: int = 0
    """Requests that became older than `LONG_OPEN_S`, each counted once."""
    ended_long: int = 0
    """Of those that ended, older than that: the others never hung."""
    latency_bins: dict[int, int] = field(default_factory=dict)
    first_byte_bins: dict[int, int] = field(default_factory=dict)
    cancelled_bins: dict[int, int] = field(default_factory=dict)
    first_event_bins: dict[int, int] = field(default_factory=dict)
    gap_bins: dict[int, int] = field(default_factory=dict)
    answer_chars_bins: dict[int, int] = field(default_factory=dict)
    completion_token_bins: dict[int, int] = field(default_factory=dict)
    score_bins: dict[int, int] = field(default_factory=dict)
    request_groups: dict[int, int] = field(default_factory=dict)
    error_groups: dict[int, int] = field(default_factory=dict)
    scores: dict[str, ScoreSums] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        """Requests that ended, however they did."""
        return self.requests + self.cancelled

    def add_second(self, counts: SecondCounts, *, histograms: bool = True) -> None:
        """Merge one second of rows; the guard needs no histograms."""
        for name in COUNT_FIELDS:
            setattr(self, name, getattr(self, name) + getattr(counts, name))
        if not histograms:
            return
        for name in BIN_FIELDS:
            merge_bins(getattr(self, name), getattr(counts, name))

    def add_answered(self, counts: AnsweredCounts) -> None:
        """Merge one second of the workers' own count."""
        self.answered += counts.answered
        self.dropped += counts.dropped

    def add_hanging(self, passed: int, ended: int) -> None:
        """Requests that passed `LONG_OPEN_S` in one second, and that ended after it."""
        self.hanging += passed
        self.ended_long += ended

    def add_score(self, counts: ScoreCounts) -> None:
        """Merge one second of late scores."""
        self.scores.setdefault(counts.name, ScoreSums()).add(counts)


def merge_bins(into: dict[int, int], bins: Mapping[int, int]) -> None:
    """Add one histogram to another."""
    for index, count in bins.items():
        into[index] = into.get(index, 0) + count


@dataclass(slots=True, kw_only=True)
class Block:
    """Consecutive seconds of one generation, both arms. Not changed once it is handed out."""

    start_second: int
    seconds: int
    generation: int
    share_bp: int
    """The candidate's asked part of both arms."""
    guard_only: bool = False
    """One second, for the guard against catastrophe; the same second also lies in a full block."""
    settled: bool = True
    """False right after a change of weight and after the generation was replaced.

    Rows are dated by when they ended, so for a while the arm whose weight just rose shows only its
    fastest answers.
    """
    candidate: ArmBlock = field(default_factory=ArmBlock)
    control: ArmBlock = field(default_factory=ArmBlock)


Counts = SecondCounts | AnsweredCounts | ScoreCounts

LONG_BIN = latency_bin(LONG_OPEN_S * 1e6)


class _Open:
    """How many requests become older than a minute, of one arm and generation.

    Each second tells how many such are open and how many ended: what is more than before, plus what
    has left, came. Answers that never end are seen by nothing else until someone gives up.
    """

    def __init__(self) -> None:
        self._open = 0

    def passed(self, counts: Iterable[Counts]) -> tuple[int, int]:
        """Of one second: requests that passed the age, and that ended beyond it."""
        still_open = ended = 0
        for one in counts:
            if isinstance(one, AnsweredCounts):
                still_open += one.long_open
            elif isinstance(one, SecondCounts):
                for bins in (one.latency_bins, one.cancelled_bins):
                    ended += sum(count for index, count in bins.items() if index > LONG_BIN)
        passed = max(0, still_open - self._open + ended)
        self._open = still_open
        return passed, ended


@dataclass(slots=True)
class _Stratum:
    """One generation: when it began and its open block."""

    first_second: int
    block: Block | None = None
    open: dict[str, _Open] = field(default_factory=dict)
    """By arm."""


class Cutter:
    """Feed reads of the log, collect blocks. The same seconds give the same blocks, however read.

    `settle_s` is how long after a change of weight nothing is compared; at least one block.
    """

    def __init__(self, policy: Policy, roles: Roles) -> None:
        self._roles = roles
        self._block_s = policy.block_s
        self._settle_s = max(policy.block_s, policy.settle_s)
        self._next_second: int | None = None
        self._strata: dict[int, _Stratum] = {}

    @property
    def next_second(self) -> int | None:
        """First second not cut yet; read the log from here. None before the first read."""
        return self._next_second

    def feed(self, evidence: Evidence, shares: Mapping[int, int]) -> list[Block]:
        """Blocks that closed with this read, in order.

        `shares` names the release's generations and what each asks for the arm that is not stable,
        in basis points: the canary in steps, the holdback in bake. Others are not judged.

        Raises:
            ValueError: the read begins after seconds that were never seen.
        """
        first = evidence.since if self._next_second is None else self._next_second
        if evidence.since > first:
            raise ValueError(f"evidence begins at second {evidence.since}, expected {first}")
        by_second = self._by_second(evidence, first, shares)
        blocks: list[Block] = []
        for second in self._seconds_to_cut(first, evidence.closed_through, by_second):
            blocks += self._cut(second, by_second.get(second, ()), shares)
        self._next_second = max(first, evidence.closed_through + 1)
        return blocks

    def _by_second(
        self, evidence: Evidence, first: int, shares: Mapping[int, int]
    ) -> dict[int, list[Counts]]:
        arms = (self._roles.candidate, self._roles.control)
        every: Iterable[Counts] = (*evidence.seconds, *evidence.answered, *evidence.scores)
        by_second: dict[int, list[Counts]] = {}
        for counts in every:
            closed = first <= counts.second <= evidence.closed_through
            if closed and counts.generation in shares and counts.arm in arms:
                by_second.setdefault(counts.second, []).append(counts)
        return by_second

    def _seconds_to_cut(
        self, first: int, last: int, by_second: Mapping[int, object]
    ) -> Iterable[int]:
        """Every second, but skipping long silence in which no block is open."""
        second = first
        waiting = sorted(by_second, reverse=True)
        while second <= last:
            while waiting and waiting[-1] < second:
                waiting.pop()
            if not any(stratum.block for stratum in self._strata.values()):
                if not waiting:
                    return
                second = waiting[-1]
            yield second
            second += 1

    def _cut(
        self, second: int, counts: Iterable[Counts], shares: Mapping[int, int]
    ) -> Iterable[Block]:
        closed = list(self._begin_generations(second, counts))
        looks: dict[int, Block] = {}
        for one in counts:
            generation = one.generation
            share_bp = self._roles.candidate_share_bp(shares[generation])
            stratum = self._strata[generation]
            if stratum.block is None:
                stratum.block = Block(
                    start_second=second,
                    seconds=0,
                    generation=generation,
                    share_bp=share_bp,
                    settled=self._settled(generation, second),
                )
            look = looks.setdefault(
                generation,
                Block(
                    start_second=second,
                    seconds=1,
                    generation=generation,
                    share_bp=share_bp,
                    guard_only=True,
                    settled=stratum.block.settled,
                ),
            )
            self._put(stratum.block, one)
            self._put(look, one, histograms=False)
        self._put_hanging(counts)
        closed += (looks[generation] for generation in sorted(looks))
        closed += self._close(second)
        return closed

    def _begin_generations(self, second: int, counts: Iterable[Counts]) -> Iterable[Block]:
        """A new generation ends the blocks of the ones before it."""
        seen = {one.generation for one in counts}
        for generation in sorted(seen - self._strata.keys()):
            self._strata[generation] = _Stratum(second)
            for older in sorted(self._strata):
                if older < generation and (block := self._strata[older].block) is not None:
                    self._strata[older].block = None
                    yield block

    def _settled(self, generation: int, second: int) -> bool:
        begun = second - self._strata[generation].first_second
        return generation == max(self._strata) and begun >= self._settle_s

    def _put(self, block: Block, counts: Counts, *, histograms: bool = True) -> None:
        arm = self._arm(block, counts.arm)
        match counts:
            case SecondCounts():
                arm.add_second(counts, histograms=histograms)
            case AnsweredCounts():
                arm.add_answered(counts)
            case ScoreCounts():
                arm.add_score(counts)

    def _put_hanging(self, counts: Iterable[Counts]) -> None:
        """Into the open blocks: what passed the age in this second."""
        by_arm: dict[tuple[int, str], list[Counts]] = {}
        for one in counts:
            by_arm.setdefault((one.generation, one.arm), []).append(one)
        for (generation, arm), some in by_arm.items():
            stratum = self._strata[generation]
            if stratum.block is not None:
                passed, ended = stratum.open.setdefault(arm, _Open()).passed(some)
                self._arm(stratum.block, arm).add_hanging(passed, ended)

    def _arm(self, block: Block, arm: str) -> ArmBlock:
        return block.candidate if arm == self._roles.candidate else block.control

    def _close(self, second: int) -> Iterable[Block]:
        """End this second in every open block; hand out those that are complete."""
        for generation in sorted(self._strata):
            stratum = self._strata[generation]
            if (block := stratum.block) is None:
                continue
            block.seconds = second - block.start_second + 1
            ended = block.candidate.ended + block.control.ended
            full = block.seconds >= open_for_s(ended, self._block_s)
            settles = not block.settled and self._settled(generation, second + 1)
            if full or settles:
                stratum.block = None
                yield block
