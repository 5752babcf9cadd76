"""What the API does with releases: start, command, show. No HTTP here."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable

from msgspec.structs import replace

from agent.changes import next_generation
from agent.loop import Loop
from agent.memory import Kept, Memory, Outdated, RouteTaken
from agent.policy import Policy
from agent.policy_file import parse_policy, to_document
from agent.publisher import Gateways
from agent.release import Change, Picture, Release, Verb, stages
from agent.rules import Rules
from agent.shipped_policies import shipped
from agent.status import status_of
from agent.verbs import Conflict, ask, retried
from mlops.contracts.plan import Slot
from mlops.contracts.release import ReleaseEvent, ReleaseRequest, ReleaseStatus

MAX_ATTEMPTS = 5
"""A cycle may change the release while a command is noted; each attempt reads it again."""


MAX_HISTORY = 2_000
"""Entries in one answer, some megabytes."""

INTERVALS_PER_LEASE = 3
"""A lease is renewed in the first cycle after a third of it, and one cycle may be late."""


class NotFound(LookupError):
    """No such release or route."""


class NotNow(Exception):
    """No gateway answers, or the release changes all the time. Try again."""


class Releases:
    """All methods raise Conflict, NotFound, NotNow or MemoryUnavailable."""

    def __init__(
        self,
        memory: Memory,
        gateways: Gateways,
        loop: Loop,
        rules: Rules,
        *,
        interval_s: float,
        unix_s: Callable[[], float],
    ) -> None:
        """`interval_s` is the loop's: what a policy's lease must outlast."""
        self._rules = rules
        self._interval_s = interval_s
        self._memory = memory
        self._gateways = gateways
        self._loop = loop
        self._unix_s = unix_s

    async def start(self, request: ReleaseRequest, by: str) -> ReleaseStatus:
        """Remember a new release; the next cycle begins it.

        Raises:
            ValueError: the request names no usable version, endpoint or policy.
        """
        policy = _policy(request)
        check_policy(policy, request.route, self._rules, self._interval_s)
        release = Release(
            id=_new_id(),
            route=request.route,
            candidate=Slot(
                version=request.version, endpoints=request.endpoints, headers=request.headers
            ),
            policy=to_document(policy),
            reason=request.reason,
            started_by=by,
            started_at_s=self._unix_s(),
        )
        if not request.reason.strip():
            raise ValueError("reason is empty; expected why this version is released")
        return await self._create(release)

    async def _create(self, release: Release) -> ReleaseStatus:
        view = await self._gateways.look()
        sights = view.routes.get(release.route, ())
        if not sights:
            if view.silent:
                raise NotNow(f"no gateway with route {release.route!r} answers")
            known = ", ".join(sorted(view.routes)) or "none"
            raise NotFound(f"no gateway has a route {release.route!r}; known: {known}")
        picture = Picture(now_s=release.started_at_s, sights=sights)
        live = picture.newest
        if live is not None and live.stable.version == release.candidate.version:
            raise Conflict(
                f"route {release.route!r}: version {live.stable.version!r} is stable already"
            )
        floor = await self._floor(release.route)
        floor = max(floor, next_generation(release, picture) - 1)
        release = replace(release, generation_floor=floor)
        change = Change(kind="release.started", actor=release.started_by, reason=release.reason)
        try:
            await self._memory.create(release, change, release.started_at_s)
        except RouteTaken as taken:
            raise Conflict(
                f"route {release.route!r} has a release already: {taken.release_id}; "
                "wait for its end or abort it"
            ) from taken
        self._loop.wake()
        return self._status(release)

    async def command(self, release_id: str, verb: Verb, by: str, reason: str) -> ReleaseStatus:
        """Note a person's command; the next cycle carries it out. `retry` is a new release."""
        for _ in range(MAX_ATTEMPTS):
            kept = await self._kept(release_id)
            now_s = self._unix_s()
            if verb is Verb.RETRY:
                new = retried(kept.release, new_id=_new_id(), by=by, reason=reason, now_s=now_s)
                return await self._create(new)
            noted = ask(kept.release, verb, by, reason, now_s)
            try:
                await self._memory.change(
                    noted.release, noted.change, revision=kept.revision, at_s=now_s, leader=None
                )
            except Outdated:
                continue
            self._loop.wake()
            return self._status(noted.release)
        raise NotNow(f"release {release_id} changed {MAX_ATTEMPTS} times meanwhile; try again")

    async def show(self, release_id: str) -> ReleaseStatus:
        """One release, with its policy."""
        release = (await self._kept(release_id)).release
        return replace(self._status(release), policy=release.policy)

    async def recent(self) -> list[ReleaseStatus]:
        """Newest first."""
        return [self._status(kept.release) for kept in await self._memory.recent()]

    async def history(self, release_id: str) -> list[ReleaseEvent]:
        """Oldest first; past `MAX_HISTORY` entries the newest of them."""
        await self._kept(release_id)
        return await newest_events(self._memory, release_id)

    async def _kept(self, release_id: str) -> Kept:
        kept = await self._memory.get(release_id)
        if kept is None:
            raise NotFound(f"no release {release_id!r}")
        return kept

    async def _floor(self, route: str) -> int:
        for kept in await self._memory.newest():
            if kept.release.route == route:
                plan = kept.release.plan
                return max(kept.release.generation_floor, plan.generation if plan else 0)
        return 0

    def _status(self, release: Release) -> ReleaseStatus:
        policy = parse_policy(release.policy, source=f"policy of release {release.id}")
        return status_of(release, policy, self._loop.cycles.get(release.id), self._unix_s())


def check_policy(policy: Policy, route: str, rules: Rules, interval_s: float) -> None:
    """Refuse at once what could never pass here.

    Raises:
        ValueError: a step above the route's cap, a gate nobody knows, or a lease that would end
            between two cycles: the release would lose its weight and return to it for ever.
    """
    cap_bp = rules.cap_bp(route)
    greatest_bp = max(stage.share_bp for stage in stages(policy))
    if greatest_bp > cap_bp:
        raise ValueError(
            f"policy: a step asks for {greatest_bp / 100:g} %, but route {route!r} may have at "
            f"most {cap_bp / 100:g} % (maxWeight in the agent's file)"
        )
    unknown = [name for name in policy.gates if name not in rules.gates]
    if unknown:
        known = ", ".join(rules.gates) or "none"
        raise ValueError(
            f"policy: gates: no gate {unknown[0]!r} in the agent's file; it has: {known}"
        )
    shortest_s = INTERVALS_PER_LEASE * interval_s
    if policy.lease_s < shortest_s:
        raise ValueError(
            f"policy: lease: expected at least {shortest_s:g} s, {INTERVALS_PER_LEASE} intervals "
            f"of this agent, got {policy.lease_s:g} s"
        )


def _policy(request: ReleaseRequest) -> Policy:
    if request.policy is not None and request.strategy:
        raise ValueError("policy and strategy are both given; expected one of them")
    if request.policy is not None:
        return parse_policy(request.policy, source="policy", route=request.route)
    return shipped(request.strategy) if request.strategy else Policy()


def _new_id() -> str:
    return f"rel-{secrets.token_hex(5)}"


async def newest_events(
    memory: Memory, release_id: str, most: int = MAX_HISTORY
) -> list[ReleaseEvent]:
    """Of a release, oldest first. How it stands is never what is left out."""
    found: deque[ReleaseEvent] = deque(maxlen=most)
    after = 0
    while page := await memory.events(release_id=release_id, after=after):
        found.extend(page)
        after = page[-1].sequence
    return list(found)
