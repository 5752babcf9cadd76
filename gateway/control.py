"""What an operator or the agent can do to a route, in the order that survives a crash.

Every change is: check, store on disk, put in force, answer. Changes are made one after another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from gateway.file_values import parse_endpoint
from gateway.plan_store import NotStored, PlanStore
from gateway.plans import Origin, PlanBook, StoredPlan
from gateway.routing import LivePlan
from mlops.contracts.api import (
    ArmCounters,
    LeaseRenewal,
    RollbackRequest,
    RouteStatus,
    UpstreamHealth,
    Weights,
)
from mlops.contracts.plan import FULL_SHARE_BP, RoutePlan, Slot

log = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 1.0
"""A server on the same network that has not accepted a connection by then is not there."""


class DataPlane(Protocol):
    """The part of the proxy that control needs."""

    @property
    def in_flight(self) -> int: ...
    def apply(self, live: LivePlan) -> None: ...
    def arms(self, route: str) -> dict[str, ArmCounters]: ...
    def upstreams(self, route: str) -> dict[str, list[UpstreamHealth]]: ...


class Unhealthy(RuntimeError):
    """The version to go back to does not answer."""


class Control:
    """The operations of the admin API."""

    def __init__(
        self, plane: DataPlane, book: PlanBook, store: PlanStore, clock: Callable[[], float]
    ) -> None:
        """`clock` is the monotonic clock that the proxy decides with, in seconds."""
        self.book = book
        self._plane = plane
        self._store = store
        self._clock = clock
        self._changing = asyncio.Lock()

    @property
    def in_flight(self) -> int:
        return self._plane.in_flight

    def now_s(self) -> float:
        return self._clock()

    def status(self, route: str) -> RouteStatus:
        """What is live. Raises UnknownRoute."""
        now_s = self._clock()
        live = self.book.live(route)
        return RouteStatus(
            plan=live.plan,
            share_bp=live.share_in_force_bp(now_s),
            lease=self.book.lease_status(route, now_s),
            explanation=self.book.explain(route, now_s),
            arms=self._plane.arms(route),
            upstreams=self._plane.upstreams(route),
        )

    def weights(self, route: str) -> Weights:
        """What was asked for, in percent; the holdback counts as stable's."""
        plan = self.book.live(route).plan
        return Weights(
            stable=(FULL_SHARE_BP - plan.canary_share_bp) / 100,
            canary=plan.canary_share_bp / 100,
            reason=plan.reason,
        )

    async def publish(self, plan: RoutePlan) -> RouteStatus:
        """Put a whole plan in force.

        Raises:
            StaleGeneration, UnknownRoute: nothing changed.
            NotStored: the disk did not take it; nothing changed.
        """
        async with self._changing:
            stored = self.book.published(plan)
            await self._store.save(stored)
            self._put_in_force(stored)
        return self.status(plan.route)

    async def renew_lease(self, route: str, renewal: LeaseRenewal) -> RouteStatus:
        """Nothing is stored: a lease does not outlive the process.

        Raises:
            StaleGeneration, NoLease, UnknownRoute, ValueError: nothing changed.
        """
        async with self._changing:
            live = self.book.renew_lease(route, renewal.generation, renewal.lease_s, self._clock())
            self._plane.apply(live)
        return self.status(route)

    async def set_weights(self, route: str, weights: Weights, *, set_by: str) -> RouteStatus:
        """Another share for the canary by hand: the next generation, held, without a lease.

        Raises:
            UnknownRoute, EmptySlot, ValueError, NotStored: nothing changed.
        """
        if abs(weights.canary * 100 - weights.canary_share_bp) > 1e-6:
            raise ValueError(f"canary {weights.canary!r} has more than two decimals")
        async with self._changing:
            plan = self.book.weighted(
                route, weights.canary_share_bp, set_by=set_by, reason=weights.reason
            )
            stored = StoredPlan(plan=plan, origin=Origin.WEIGHTS)
            await self._store.save(stored)
            self._put_in_force(stored)
        return self.status(route)

    async def roll_back(self, route: str, request: RollbackRequest, *, set_by: str) -> RouteStatus:
        """Everything to stable, now; repeating it changes nothing.

        It is put in force even where the disk does not take it, because traffic matters more; the
        caller is told, since a restart would find the plan before it.

        Raises:
            UnknownRoute, NothingToRestore: nothing changed.
            Unhealthy: the previous version does not answer, and `force` was not given.
            NotStored: in force, but not stored.
        """
        if request.to not in ("", "previous"):
            raise ValueError(f"to: expected previous or nothing, got {request.to!r}")
        async with self._changing:
            stored = self.book.rolled_back(
                route,
                to_previous=request.to == "previous",
                set_by=set_by,
                reason=request.reason,
            )
            if stored is not None:
                if stored.origin is Origin.RESTORED and not request.force:
                    await _require_answer(route, stored.plan.stable)
                self._put_in_force(stored)
            await self._keep_rollback(route)
        return self.status(route)

    async def _keep_rollback(self, route: str) -> None:
        """Store what is live; also on a repetition, since the first attempt may have failed."""
        plan = self.book.live(route).plan
        try:
            await self._store.save(self.book.stored(route))
        except NotStored as exc:
            raise NotStored(
                f"route {route!r} is rolled back to {plan.stable.version!r}, but a restart would "
                f"not find that: {exc}"
            ) from exc

    def _put_in_force(self, stored: StoredPlan) -> None:
        plan = stored.plan
        self._plane.apply(self.book.accept(plan, self._clock(), stored.origin))
        log.info("route %s: %r", plan.route, self.book.explain(plan.route, self._clock()))


async def _require_answer(route: str, slot: Slot) -> None:
    answers = await asyncio.gather(*(_accepts(endpoint) for endpoint in slot.endpoints))
    if not any(answers):
        raise Unhealthy(
            f"route {route!r}: no endpoint of {slot.version!r} accepts a connection within "
            f"{PROBE_TIMEOUT_S:g} s ({', '.join(slot.endpoints)}); send force to go there anyway"
        )


async def _accepts(endpoint: str) -> bool:
    address = parse_endpoint(endpoint)
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            if address.path is not None:
                _, writer = await asyncio.open_unix_connection(address.path)
            else:
                _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:  # TimeoutError is one too
        return False
    writer.close()
    return True
