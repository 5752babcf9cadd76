"""A release played on a log of rows: only at the seconds at which anything can change. Pure.

Second by second gives the same, and takes minutes where a million rows lie thin over a week. What
can change the release or what is told of it is: another verdict, another weight in the log, a time
that is over, and whatever has just changed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from math import ceil, floor, inf, isfinite

from agent.judge import Judge, Verdict
from agent.judge.proof import level_for
from agent.policy import Policy
from agent.rehearsal import Moment, Rehearsal
from agent.release import Phase, stage_of
from agent.row_log import Needed, RowLog, Stretch


class RowRehearsal(Rehearsal):
    """A whole log; its policy asks for nothing that rows cannot answer (see `alone`)."""

    def __init__(self, policy: Policy, log: RowLog) -> None:
        super().__init__(policy, log.past)
        self._log = log
        self._changes = [second for second, _ in log.changes]
        """Of the weight in the log."""
        self._cycled: tuple[Verdict | None, int] = (None, 0)
        """What the last cycle was about: the verdict, and the weight in the log."""
        self._level: int | None = None
        """Of the proof that the last cycle of this watch was about."""
        self._cycled_at, self._again_at = -inf, float(log.since)
        """The second of the last cycle, and one that must be looked at, whatever is in it."""

    def play(self) -> Iterator[Moment]:
        """Everything that changes, in the order of time."""
        log, second = self._log, self._log.since
        while second <= log.through and not self.is_over:
            self._again_at, self._level = second, None
            second = yield from self._play_phase(second)
        self._canary_requests = log.canary_requests(int(self._now_s) - 1)

    def _play_phase(self, since: int) -> Generator[Moment, None, int]:
        """Until another watch begins, or nothing follows; the second after that."""
        watch, policy = self._watch, self._policy
        judge, roles = watch.judge, watch.roles
        needed = Needed(judge.histograms, judge.score_field)
        last = -inf
        for stretch in self._log.stretches(policy, roles, self._shares, since, needed):
            judge.absorb_chunk(stretch.chunk)
            moments: list[int] = stretch.chunk.seconds.tolist()
            last = moments[-1] if moments else last
            second = yield from self._play_stretch(stretch, moments, judge)
            if self.is_over or self._watch is not watch:
                return second + 1
        self._now_s = float(self._log.through + 1)
        if last > self._cycled_at:
            self._judgement = judge.judgement(self._share_asked)
        return self._log.through + 1

    def _play_stretch(
        self, stretch: Stretch, moments: Sequence[int], judge: Judge
    ) -> Generator[Moment, None, int]:
        """The last second looked at."""
        watch, second = self._watch, stretch.since - 1
        while True:
            following = self._next(second, moments, judge)
            if following > stretch.through:
                return second
            second = int(following)
            moment = bisect_right(moments, second) - 1
            is_moment = moment >= 0 and moments[moment] == second
            yield from self._look(second, judge, moment, is_moment=is_moment)
            if self.is_over or self._watch is not watch:
                return second

    def _look(self, second: int, judge: Judge, moment: int, *, is_moment: bool) -> Iterator[Moment]:
        """As a tick that ends with this second."""
        self._now_s = float(second + 1)
        _, self._share_bp = self._log.changes[bisect_right(self._changes, second) - 1]
        level = level_for(self._share_asked, self._policy)
        judgement = judge.judgement(self._share_asked, moment)
        if not (is_moment or level != self._level or self._may_act(judgement)):
            return
        before = self.release
        self._judgement, self._level = judgement, level
        self._cycled, self._cycled_at = (judgement.verdict, self._share_bp), second
        yield from self._cycle(judgement)
        if self.release is not before:
            self._again_at = second + 1

    def _next(self, second: int, moments: Sequence[int], judge: Judge) -> float:
        """The first second after this one at which anything may change."""
        times = [self._again_at, *self._deadlines()]
        if (change := bisect_right(self._changes, second)) < len(self._changes):
            times.append(self._changes[change])
        verdicts, (verdict, share_bp) = judge.verdicts(self._share_asked), self._cycled
        for moment in range(bisect_right(moments, second), len(moments)):
            if verdicts[moment] is not verdict or self._share_bp != share_bp:
                times.append(moments[moment])
                break
        return min((time for time in times if time > second), default=inf)

    def _deadlines(self) -> Iterator[float]:
        """Seconds by whose end a time of the release is over, or just was."""
        release, policy = self.release, self._policy
        over = []
        if release.in_force_since_s is not None and not release.phase.is_ended:
            is_baking = release.phase is Phase.BAKING
            span_s = policy.bake_s if is_baking else stage_of(release, policy).duration_s
            over.append(release.in_force_since_s + span_s)
        if release.invalid_since_s is not None:
            over.append(release.invalid_since_s + policy.invalid_limit_s)
        for now_s in filter(isfinite, over):
            yield from (ceil(now_s) - 1, floor(now_s))
