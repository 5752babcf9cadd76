"""What is live on each route, and why. Pure: time comes in, plans come out, nothing is stored here.

A lease is a duration on the process's monotonic clock, counted from acceptance. A plan restored
from disk counts as lapsed until its lease is renewed: nobody may have watched it meanwhile, and
everything to its stable slot is safe before a promotion and after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from math import inf

import msgspec
from msgspec.structs import replace

from gateway.plan_sentence import where_and_why
from gateway.routing import LivePlan
from gateway.settings import RouteSettings
from mlops.contracts.api import LeaseStatus
from mlops.contracts.plan import MAX_CANARY_SHARE_BP, RoutePlan, rolled_back, with_weight

MANAGED_WAIT_S = 10.0
"""How long a managed route without a plan holds back readiness; then the file's stable serves."""
SEED_GENERATION = 1
"""Of weights seeded from the file. A managed route waits at 0, so that any plan is newer."""


class Origin(StrEnum):
    """How the live plan came to be; decides what repeating a rollback does."""

    FILE = "file"
    PUBLISHED = "published"
    WEIGHTS = "weights"
    ROLLED_BACK = "rolled_back"
    """The canary was dropped, by hand or by a plan that was published."""
    RESTORED = "restored"
    """The version before the promotion is stable again."""


class StoredPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a route on disk."""

    plan: RoutePlan
    origin: Origin = Origin.PUBLISHED


class CarriedPlan(StoredPlan, frozen=True, kw_only=True):
    """What an upgrade hands on: a plan with its lease, which goes on as if nothing had happened."""

    lease_ends_at_s: float
    """On the machine's monotonic clock."""
    seeded_at_s: float
    """When a managed route began to wait for its first plan."""


class UnknownRoute(LookupError):
    """No route of that name is in the gateway's file."""


class StaleGeneration(ValueError):
    """The plan or renewal is not of the generation that it should be."""

    def __init__(self, message: str, live_generation: int) -> None:
        super().__init__(message)
        self.live_generation = live_generation


class NoLease(ValueError):
    """The live plan has no lease that could be renewed."""


class ShareTooLarge(ValueError):
    """More for the canary than the gateway's file allows on this route."""


class EmptySlot(ValueError):
    """A share was asked for a version that is not there."""


class _Entry:
    __slots__ = ("live", "max_share_bp", "origin", "seeded_at_s")

    def __init__(
        self, live: LivePlan, origin: Origin, max_share_bp: int, seeded_at_s: float = -inf
    ) -> None:
        self.live = live
        self.origin = origin
        self.max_share_bp = max_share_bp
        """Of the canary, by the gateway's file."""
        self.seeded_at_s = seeded_at_s
        """When a managed route began to wait for its first plan."""


class PlanBook:
    """The live plan of every route. Belongs to one thread."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    @property
    def routes(self) -> list[str]:
        """Their names, in the file's order."""
        return list(self._entries)

    def live(self, route: str) -> LivePlan:
        """What is in force on a route. Raises UnknownRoute."""
        return self._entry(route).live

    def stored(self, route: str) -> StoredPlan:
        """What belongs on disk for the live plan."""
        entry = self._entry(route)
        return StoredPlan(plan=entry.live.plan, origin=entry.origin)

    def restore(self, stored: StoredPlan, max_share_bp: int = MAX_CANARY_SHARE_BP) -> LivePlan:
        """Take up a plan from disk. Its lease, if it has one, counts as ended.

        A canary share above `max_share_bp`, which the file may have lowered since, is cut to it.
        """
        plan = stored.plan
        if plan.canary_share_bp > max_share_bp:
            plan = replace(plan, canary_share_bp=max_share_bp)
        live = LivePlan(plan, inf if plan.lease_s is None else -inf)
        self._entries[plan.route] = _Entry(live, stored.origin, max_share_bp)
        return live

    def seed(self, settings: RouteSettings, now_s: float) -> LivePlan:
        """Take up the file's weights, for a route that has no stored plan."""
        live = LivePlan(seed_plan(settings))
        waits = settings.managed
        entry = _Entry(live, Origin.FILE, settings.max_canary_share_bp, now_s if waits else -inf)
        self._entries[settings.name] = entry
        return live

    def carried(self) -> tuple[CarriedPlan, ...]:
        """Everything that is live, for a successor in another process."""
        return tuple(
            CarriedPlan(
                plan=entry.live.plan,
                origin=entry.origin,
                lease_ends_at_s=entry.live.lease_ends_at_s,
                seeded_at_s=entry.seeded_at_s,
            )
            for entry in self._entries.values()
        )

    def carry_on(self, carried: CarriedPlan, max_share_bp: int) -> LivePlan:
        """Take up a plan as a predecessor had it in force.

        Raises:
            ShareTooLarge: the file no longer allows the canary what it has.
        """
        plan = carried.plan
        live = LivePlan(plan, carried.lease_ends_at_s)
        self._entries[plan.route] = _Entry(live, carried.origin, max_share_bp, carried.seeded_at_s)
        self._check_share(plan)
        return live

    def successor(self, routes: Iterable[RouteSettings]) -> PlanBook:
        """A book of these routes, in this order, with what is known of them; this one stays.

        Raises:
            ShareTooLarge: the file no longer allows a canary what it has.
        """
        book = PlanBook()
        for route in routes:
            if route.name in self._entries:
                known = self._entries[route.name]
                book._entries[route.name] = _Entry(
                    known.live, known.origin, route.max_canary_share_bp, known.seeded_at_s
                )
                book._check_share(known.live.plan)
        return book

    def become(self, other: PlanBook) -> None:
        """Take over everything that `other` knows, and nothing else."""
        self._entries = other._entries

    def check(self, plan: RoutePlan) -> None:
        """Raise unless `accept` would take the plan."""
        live = self._entry(plan.route).live.plan
        if plan.generation <= live.generation:
            raise StaleGeneration(
                f"route {plan.route!r}: generation {plan.generation} is not above the live "
                f"generation {live.generation}; expected {live.generation + 1} or more",
                live.generation,
            )
        self._check_share(plan)

    def _check_share(self, plan: RoutePlan) -> None:
        max_share_bp = self._entry(plan.route).max_share_bp
        if plan.canary_share_bp > max_share_bp:
            raise ShareTooLarge(
                f"route {plan.route!r}: {plan.canary_share_bp / 100:g} % for the canary is above "
                f"max_canary of the gateway's file, {max_share_bp / 100:g} %"
            )

    def published(self, plan: RoutePlan) -> StoredPlan:
        """What to store of a plan that was published whole.

        A plan that does what a rollback does counts as one: whoever then rolls back by hand gets a
        confirmation, not the version before the good one.

        Raises:
            StaleGeneration, UnknownRoute, ShareTooLarge: as in `check`.
        """
        self.check(plan)
        return StoredPlan(plan=plan, origin=_origin_of(plan, self._entry(plan.route)))

    def accept(self, plan: RoutePlan, now_s: float, origin: Origin = Origin.PUBLISHED) -> LivePlan:
        """Put the plan in force; its lease counts from now.

        Raises:
            StaleGeneration: its generation is not greater than the live one.
            UnknownRoute: its route is not in the file.
            ShareTooLarge: the file allows the canary less.
        """
        self.check(plan)
        live = in_force(plan, now_s)
        self._put(plan.route, live, origin)
        return live

    def renew_lease(self, route: str, generation: int, lease_s: float, now_s: float) -> LivePlan:
        """Let the live generation's lease end `lease_s` from now. Raises as `renewed` does."""
        live = self.renewed(route, generation, lease_s, now_s)
        self._put(route, live, self._entry(route).origin)
        return live

    def _put(self, route: str, live: LivePlan, origin: Origin) -> None:
        self._entries[route] = _Entry(live, origin, self._entry(route).max_share_bp)

    def renewed(self, route: str, generation: int, lease_s: float, now_s: float) -> LivePlan:
        """The live plan with a lease that ends `lease_s` from now, also where it has lapsed.

        Raises:
            StaleGeneration: another generation is live.
            NoLease: the live plan has none; it stays in force without renewal.
            ValueError: the lease is not above 0.
        """
        if not lease_s > 0:
            raise ValueError(f"lease_s {lease_s:g} must be above 0")
        entry = self._entry(route)
        live = entry.live
        if generation != live.plan.generation:
            raise StaleGeneration(
                f"route {route!r}: a lease of generation {generation} was to be renewed, "
                f"but generation {live.plan.generation} is live",
                live.plan.generation,
            )
        if live.plan.lease_s is None:
            raise NoLease(
                f"route {route!r}: generation {generation} has no lease; it stays in force until "
                "it is replaced"
            )
        return LivePlan(live.plan, now_s + lease_s)

    def weighted(self, route: str, canary_share_bp: int, *, set_by: str, reason: str) -> RoutePlan:
        """The next plan after weights set by hand: held, without a lease, without a holdback.

        Raises:
            EmptySlot: a share for a canary that is not there.
            ValueError: the share is too large, for a plan or (ShareTooLarge) for this route.
        """
        live = self._entry(route).live.plan
        if canary_share_bp and live.canary is None:
            raise EmptySlot(
                f"route {route!r} has no canary to give {canary_share_bp / 100:g} % to; publish "
                "a plan with a canary slot first"
            )
        plan = with_weight(
            replace(live, holdback_share_bp=0),
            generation=live.generation + 1,
            canary_share_bp=canary_share_bp,
            set_by=set_by,
            reason=reason,
            hold=True,
        )
        self._check_share(plan)
        return plan

    def rolled_back(
        self, route: str, *, to_previous: bool, set_by: str, reason: str
    ) -> StoredPlan | None:
        """The next plan after a rollback; None where the live plan is that rollback already.

        A canary is dropped first; where there is none, or with `to_previous`, the version before
        the promotion becomes stable. The version rolled back from is in no slot afterwards. Where
        a canary was dropped already, only `to_previous` goes further back.

        Raises:
            NothingToRestore: there is neither a canary nor a previous version.
        """
        entry = self._entry(route)
        live = entry.live.plan
        done = {Origin.RESTORED} if to_previous else {Origin.RESTORED, Origin.ROLLED_BACK}
        if entry.origin in done:
            return None
        restores = to_previous or live.canary is None
        plan = rolled_back(
            live,
            generation=live.generation + 1,
            set_by=set_by,
            reason=reason,
            hold=True,
            to_previous=restores,
        )
        return StoredPlan(plan=plan, origin=Origin.RESTORED if restores else Origin.ROLLED_BACK)

    def is_waiting(self, route: str, now_s: float) -> bool:
        """Managed, no plan yet, and still within the time that readiness waits for one."""
        return self.is_unpublished(route) and (
            now_s < self._entry(route).seeded_at_s + MANAGED_WAIT_S
        )

    def is_unpublished(self, route: str) -> bool:
        """Managed, and serves the file's stable because no plan was ever published."""
        return self._entry(route).seeded_at_s > -inf

    def lease_status(self, route: str, now_s: float) -> LeaseStatus | None:
        """None: the live plan has no lease. Raises UnknownRoute."""
        live = self._entry(route).live
        if live.plan.lease_s is None:
            return None
        return LeaseStatus(
            lease_s=live.plan.lease_s,
            remaining_s=round(max(0.0, live.lease_ends_at_s - now_s), 3),
            lapsed=live.is_lapsed(now_s),
        )

    def explain(self, route: str, now_s: float) -> str:
        """One sentence: where traffic goes and why."""
        live = self._entry(route).live
        return where_and_why(live, now_s, is_unpublished=self.is_unpublished(route))

    def _entry(self, route: str) -> _Entry:
        try:
            return self._entries[route]
        except KeyError:
            known = ", ".join(self._entries) or "none"
            raise UnknownRoute(f"no route {route!r}; this gateway's routes: {known}") from None


def in_force(plan: RoutePlan, now_s: float) -> LivePlan:
    """A plan accepted now: its lease counts from here."""
    return LivePlan(plan, inf if plan.lease_s is None else now_s + plan.lease_s)


def seed_plan(settings: RouteSettings) -> RoutePlan:
    """The file's weights as a plan without a lease."""
    return RoutePlan(
        route=settings.name,
        generation=0 if settings.managed else SEED_GENERATION,
        salt=settings.name,
        stable=settings.stable,
        canary=settings.canary,
        canary_share_bp=settings.canary_share_bp,
        set_by="file",
    )


def _origin_of(plan: RoutePlan, entry: _Entry) -> Origin:
    """Of a published plan that follows `entry`."""
    before = entry.live.plan
    if plan.canary is not None:
        return Origin.PUBLISHED
    if plan.stable.version == before.stable.version:
        if before.canary is not None:
            return Origin.ROLLED_BACK
        was_rollback = entry.origin in (Origin.ROLLED_BACK, Origin.RESTORED)
        if was_rollback and plan.previous == before.previous:
            return entry.origin  # the same slots again, under another generation
    elif (
        before.previous is not None
        and plan.previous is None
        and plan.stable.version == before.previous.version
    ):
        return Origin.RESTORED
    return Origin.PUBLISHED
