"""Cut the log's counts per second into blocks that the judge can compare. Pure.

A block lies within one generation and is closed by the clock or by how many requests ended, never
by how they ended: what closes a block may not depend on what is tested in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from agent.policy import Policy
from mlops.contracts.evidence import AnsweredCounts, Evidence, ScoreCounts, SecondCounts
from mlops.contracts.plan import FULL_SHARE_BP, Arm

MIN_BLOCK_REQUESTS = 20
"""Below this a block stays open: at 1 request/s tiny blocks cost power and tell nothing sooner."""
MAX_BLOCK_S = 60
"""No block stays open longer: at low traffic a look a minute is what remains."""


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
    """Late scores of one name, in 0..1: how many, their sum and the sum of their squares."""

    count: int = 0
    total: float = 0.0
    total_squares: float = 0.0

    def add(self, counts: ScoreCounts) -> None:
        """Merge one second."""
        self.count += counts.count
        self.total += counts.total
        self.total_squares += counts.total_squares


@dataclass(slots=True, kw_only=True)
class ArmBlock:
    """What one arm did in one block. Names as in `SecondCounts`, `AnsweredCounts`."""

    rows: int = 0
    requests: int = 0
    errors: int = 0
    client_errors: int = 0
    cancelled: int = 0
    answered: int = 0
    dropped: int = 0
    latency_bins: dict[int, int] = field(default_factory=dict)
    first_byte_bins: dict[int, int] = field(default_factory=dict)
    cancelled_bins: dict[int, int] = field(default_factory=dict)
    scores: dict[str, ScoreSums] = field(default_factory=dict)

    @property
    def ended(self) -> int:
        """Requests that ended, however they did."""
        return self.requests + self.cancelled

    def add_second(self, counts: SecondCounts) -> None:
        """Merge one second of rows."""
        self.rows += counts.rows
        self.requests += counts.requests
        self.errors += counts.errors
        self.client_errors += counts.client_errors
        self.cancelled += counts.cancelled
        merge_bins(self.latency_bins, counts.latency_bins)
        merge_bins(self.first_byte_bins, counts.first_byte_bins)
        merge_bins(self.cancelled_bins, counts.cancelled_bins)

    def add_answered(self, counts: AnsweredCounts) -> None:
        """Merge one second of the workers' own count."""
        self.answered += counts.answered
        self.dropped += counts.dropped

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


@dataclass(slots=True)
class _Stratum:
    """One generation: when it began and its open block."""

    first_second: int
    block: Block | None = None


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
            self._put(look, one)
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

    def _put(self, block: Block, counts: Counts) -> None:
        arm = block.candidate if counts.arm == self._roles.candidate else block.control
        match counts:
            case SecondCounts():
                arm.add_second(counts)
            case AnsweredCounts():
                arm.add_answered(counts)
            case ScoreCounts():
                arm.add_score(counts)

    def _close(self, second: int) -> Iterable[Block]:
        """End this second in every open block; hand out those that are complete."""
        for generation in sorted(self._strata):
            stratum = self._strata[generation]
            if (block := stratum.block) is None:
                continue
            block.seconds = second - block.start_second + 1
            enough = block.candidate.ended + block.control.ended >= MIN_BLOCK_REQUESTS
            full = block.seconds >= self._block_s and (enough or block.seconds >= MAX_BLOCK_S)
            settles = not block.settled and self._settled(generation, second + 1)
            if full or settles:
                stratum.block = None
                yield block
