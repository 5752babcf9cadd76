"""What an operator or the agent can do to a route, in the order that survives a crash.

Every change is: check, have every worker try it, store on disk, put in force in all of them,
answer. Changes are made one after another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gateway.counts import Counts
from gateway.plan_store import NotStored, PlanStore
from gateway.plans import Origin, PlanBook, StoredPlan, in_force
from gateway.routing import LivePlan
from mlops.contracts.api import (
    LeaseRenewal,
    RollbackRequest,
    RouteStatus,
    Weights,
)
from mlops.contracts.plan import FULL_SHARE_BP, RoutePlan, Slot
from mlops.contracts.slot_values import parse_endpoint

log = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 1.0
"""A server on the same network that has not accepted a connection by then is not there."""


Commits = Callable[[], Awaitable[None]]


class DataPlane(Protocol):
    """Whoever serves clients with the plans: the workers."""

    def changing(self) -> AbstractAsyncContextManager[None]:
        """Around every change, from check to commit: nobody else makes one. Raises HandedOver."""
        ...

    def prepared(self, plans: Sequence[LivePlan]) -> AbstractAsyncContextManager[Commits]:
        """They can all be put in force, and are by calling what is given. Raises NotTaken."""
        ...

    async def count(self) -> Counts:
        """What passed so far, over all who serve."""


class Unhealthy(RuntimeError):
    """The version to go back to does not answer."""


class Control:
    """The operations of the admin API."""

    def __init__(
        self,
        plane: DataPlane,
        book: PlanBook,
        store: PlanStore,
        clock: Callable[[], float],
        model_of: Callable[[str], str],
    ) -> None:
        """`clock` is the monotonic clock that the workers decide with, in seconds; `model_of` names
        the model that a route serves."""
        self.book = book
        self._plane = plane
        self._store = store
        self._clock = clock
        self._model_of = model_of

    def now_s(self) -> float:
        """By the clock that leases end by, in seconds."""
        return self._clock()

    async def status(self, route: str) -> RouteStatus:
        """What is live. Raises UnknownRoute."""
        self.book.live(route)
        return self._status(route, await self._plane.count())

    async def statuses(self) -> list[RouteStatus]:
        """Of every route, in the file's order."""
        counts = await self._plane.count()
        return [self._status(route, counts) for route in self.book.routes]

    async def count(self) -> Counts:
        """What passed, over all workers."""
        return await self._plane.count()

    def _status(self, route: str, counts: Counts) -> RouteStatus:
        now_s = self._clock()
        live = self.book.live(route)
        return RouteStatus(
            plan=live.plan,
            model=self._model_of(route),
            share_bp=live.share_in_force_bp(now_s),
            lease=self.book.lease_status(route, now_s),
            explanation=self.book.explain(route, now_s),
            arms=counts.arms.get(route, {}),
            upstreams=counts.upstreams.get(route, {}),
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
            NotTaken: a worker cannot put it in force; nothing changed.
            NotStored: the disk did not take it; nothing changed.
        """
        async with self._plane.changing():
            await self._put_in_force(self.book.published(plan))
        return await self.status(plan.route)

    async def renew_lease(self, route: str, renewal: LeaseRenewal) -> RouteStatus:
        """Nothing is stored: a lease does not outlive the process.

        Raises:
            StaleGeneration, NoLease, UnknownRoute, NotTaken, ValueError: nothing changed.
        """
        async with self._plane.changing():
            asked = (route, renewal.generation, renewal.lease_s, self._clock())
            async with self._plane.prepared([self.book.renewed(*asked)]) as commit:
                self.book.renew_lease(*asked)
                await commit()
        return await self.status(route)

    async def set_weights(self, route: str, weights: Weights, *, set_by: str) -> RouteStatus:
        """Another share for the canary by hand: the next generation, held, without a lease.

        Raises:
            UnknownRoute, EmptySlot, ValueError, NotTaken, NotStored: nothing changed.
        """
        if abs(weights.canary * 100 - weights.canary_share_bp) > 1e-6:
            raise ValueError(f"canary {weights.canary!r} has more than two decimals")
        async with self._plane.changing():
            plan = self.book.weighted(
                route, weights.canary_share_bp, set_by=set_by, reason=weights.reason
            )
            await self._put_in_force(StoredPlan(plan=plan, origin=Origin.WEIGHTS))
        return await self.status(route)

    async def roll_back(self, route: str, request: RollbackRequest, *, set_by: str) -> RouteStatus:
        """Everything to stable, now; repeating it changes nothing.

        It is put in force even where the disk does not take it, because traffic matters more; the
        caller is told, since a restart would find the plan before it.

        Raises:
            UnknownRoute, NothingToRestore, NotTaken: nothing changed.
            Unhealthy: the previous version does not answer, and `force` was not given.
            NotStored: in force, but not stored.
        """
        if request.to not in ("", "previous"):
            raise ValueError(f"to: expected previous or nothing, got {request.to!r}")
        async with self._plane.changing():
            stored = self.book.rolled_back(
                route,
                to_previous=request.to == "previous",
                set_by=set_by,
                reason=request.reason,
            )
            if stored is not None:
                if stored.origin is Origin.RESTORED and not request.force:
                    await _require_answer(route, stored.plan.stable)
                await self._put_in_force(stored, store=False)
            await self._keep_rollback(route)
        return await self.status(route)

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

    async def _put_in_force(self, stored: StoredPlan, *, store: bool = True) -> None:
        plan, now_s = stored.plan, self._clock()
        async with self._plane.prepared([in_force(plan, now_s)]) as commit:
            if store:
                await self._store.save(stored)
            self.book.accept(plan, now_s, stored.origin)
            await commit()
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
