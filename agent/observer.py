"""Read the log and judge it: for each release the evidence of its phase, folded as it comes.

Nothing here is remembered. After a restart the same seconds are read again, and give the same
judgement.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from agent.judge import Judgement
from agent.policy import Policy
from agent.release import Phase, Release, Sight, mirrors
from agent.standing import AHEAD_S
from agent.watch import PairsWatch, Watch, since_of
from mlops.contracts.evidence import Evidence, Pair
from mlops.feature_store.errors import Refused, Unavailable

log = logging.getLogger(__name__)

READ_TIMEOUT_S = 5.0
"""Longest that reading may keep a cycle. What was read by then is kept, the next one reads on."""

READ_S = 900
"""Seconds of the log in one read. After a restart there may be days: in parts none is lost."""

WORK_S = 0.2
"""Longest that judging may keep a cycle; the rest waits for the next one. Until all is judged the
evidence counts as old, so nothing advances and no lease is renewed meanwhile."""


MAX_PAIRS = 5_000
"""In one read; the rest comes with the next cycle."""


class EvidenceLog(Protocol):
    """The log, as far as it is judged. Both raise Unavailable and Refused."""

    async def read_evidence(
        self, route: str, *, since: int, until: int | None = None, release_id: str | None = None
    ) -> Evidence:
        """All that closed from second `since` on, at most through `until`.

        `release_id` is for its errors only: generations tell releases apart.
        """

    async def read_pairs(self, route: str, *, since: int, until: int, limit: int) -> Sequence[Pair]:
        """Pairs complete from `since` through `until`, in that order; the first `limit`."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The evidence of a release as of now."""

    judgement: Judgement
    closed_through_s: float
    canary_requests: int


class Observer:
    """The evidence of all active releases."""

    def __init__(self, evidence_log: EvidenceLog, scores_through: Callable[[float], int]) -> None:
        """`scores_through` gives, of a time, the last second whose late scores are all stored."""
        self._log = evidence_log
        self._scores_through = scores_through
        self._watches: dict[str, Watch] = {}
        self._pairs: dict[str, PairsWatch] = {}

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
        if watch is None or watch.phase is not release.phase or watch.since != since_of(release):
            watch = self._watches[release.id] = Watch(release, policy)
        ahead_through = await self._read_on(watch, release, _lapsed(release, sights), now_s)
        until_s = monotonic() + WORK_S
        watch.absorb(release.shares, lambda: monotonic() < until_s)
        if watch.closed_through < watch.since:
            return None
        if mirrors(release, policy):
            return await self._observe_pairs(release, policy, watch)
        is_baking = release.phase is Phase.BAKING
        share_bp = plan.holdback_share_bp if is_baking else plan.canary_share_bp
        return Seen(
            judgement=watch.judgement(share_bp),
            closed_through_s=float(ahead_through or watch.closed_through),
            canary_requests=(release.canary_requests if is_baking else watch.candidate_requests),
        )

    async def _read_on(
        self, watch: Watch, release: Release, lapsed: frozenset[int], now_s: float
    ) -> int | None:
        """Take what has closed since the last cycle, as much of it as can be read in time.

        Returns how far a log is whose clock is ahead of ours: what we take for new is old there, so
        it may speak against the candidate, but `standing` lets nothing advance on it.
        """
        last, through = self._scores_through(now_s), 0
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                while True:
                    until = min(last, watch.next_second + READ_S - 1)
                    evidence = await self._log.read_evidence(
                        release.route, since=watch.next_second, until=until, release_id=release.id
                    )
                    through = evidence.log_through
                    is_part = evidence.closed_through == until < last
                    watch.take(evidence, lapsed, is_part=is_part)
                    if not is_part:
                        break
        except (Unavailable, TimeoutError) as error:
            log.warning("%s: no evidence: %s", release.id, str(error) or "the log did not answer")
        except Refused as error:
            log.error("%s: the log refuses to be read: %s", release.id, error)  # noqa: TRY400
        return through if through > now_s + AHEAD_S else None

    async def _observe_pairs(self, release: Release, policy: Policy, watch: Watch) -> Seen | None:
        """What the two answers to each mirrored query say, as far as the log is complete."""
        pairs = self._pairs.get(release.id)
        if pairs is None or pairs.since != int(release.started_at_s):
            pairs = self._pairs[release.id] = PairsWatch(release, policy)
        if watch.closed_through >= pairs.next_second:
            try:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    found = await self._log.read_pairs(
                        release.route,
                        since=pairs.next_second,
                        until=watch.closed_through,
                        limit=MAX_PAIRS,
                    )
            except (Unavailable, Refused, TimeoutError) as error:
                log.warning("%s: no pairs: %s", release.id, str(error) or "the log did not answer")
            else:
                pairs.take(found, watch.closed_through, MAX_PAIRS)
        return Seen(
            judgement=pairs.judge.judgement(),
            closed_through_s=float(pairs.next_second - 1),
            canary_requests=pairs.judge.pairs,
        )

    def forget(self, known: set[str]) -> None:
        """Keep only the releases named."""
        for release_id in self._pairs.keys() - known:
            self._pairs.pop(release_id, None)
        for release_id in self._watches.keys() - known:
            self._watches.pop(release_id, None)


def _lapsed(release: Release, sights: tuple[Sight, ...]) -> frozenset[int]:
    """Generations of the release that were, or are, in force with their lease ended."""
    now = {
        sight.plan.generation
        for sight in sights
        if sight.plan is not None and sight.lease_remaining_s == 0
    }
    return frozenset(release.lapsed_generations) | now
