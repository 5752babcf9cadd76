"""The data plane of one worker: routes, listeners, plans and counts. No admin, no files."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from gateway.accepting import Acceptor
from gateway.client_rules import ClientRules
from gateway.counters import SeriesCounters, TallyCell
from gateway.deadlines import SWEEP_S
from gateway.dialing import dial
from gateway.downstream import Downstream
from gateway.exchange import State
from gateway.flow import Flow, Spool
from gateway.health_checks import HealthChecks
from gateway.lanes import SECOND_NS, RouteState
from gateway.pool import Endpoint
from gateway.routing import LivePlan
from gateway.server_timing import ASKED_BY
from gateway.settings import ClientSettings, RouteSettings
from gateway.tls import Contexts
from gateway.upstream_settings import UpstreamSettings
from mlops.contracts.api import ArmCounters, UpstreamHealth
from mlops.contracts.plan import Slot
from mlops.contracts.tally import Tally, TallyEntry
from mlops.service.aio import spawn
from mlops.service.tls import LOOK_S

if TYPE_CHECKING:
    from gateway.lanes import Upstreams
    from gateway.observing import Observing

PoolKey = tuple[str, UpstreamSettings]

LAST_ACCEPTS_S: Final = 0.5
"""Longest time that accepting goes on at the end, where clients keep on connecting."""


class Proxy:
    """Serves clients. Every route needs a plan before `listen`."""

    def __init__(
        self,
        routes: Sequence[RouteSettings],
        spool: Spool | None,
        observing: Observing | None = None,
        *,
        clients: ClientSettings | None = None,
        served_by: bool = True,
        contexts: Contexts | None = None,
    ) -> None:
        states = [RouteState(settings, says_served_by=served_by) for settings in routes]
        self._served_by = served_by
        self._routes = {state.settings.name: state for state in states}
        """Of every name that was ever served: what was counted of a removed route stays."""
        self._endpoints: dict[PoolKey, Upstreams] = {}
        self._acceptors: dict[socket.socket, Acceptor] = {}
        self._contexts = contexts or Contexts()
        self._looked_at_files_ns = 0
        self._looking: asyncio.Task[None] | None = None
        self._checks = HealthChecks(self._contexts)
        randomness = Random(secrets.randbits(128))  # noqa: S311 - splits load, guards nothing
        rules = ClientRules(clients or ClientSettings())
        self._flow = Flow(spool, self._dial, _later, rules, randomness)
        self._flow.serve(states, _looked_at(routes))
        self._flow.observing = observing
        self._worker = getattr(spool, "worker", "")
        self._sweeping: asyncio.TimerHandle | None = None
        self._clock_read_ns = 0
        self._emptied = asyncio.Event()

    # ---- plans --------------------------------------------------------------------------------

    def apply(self, live: LivePlan) -> None:
        """Replace the route's plan whole. Exchanges under way keep their decision.

        Raises:
            KeyError: no route has this name.
        """
        route = self._routes[live.plan.route]
        route.apply(live, partial(self._endpoint, route.settings.upstream))
        self._retire_unused()

    def replace(self, routes: Sequence[RouteSettings], plans: Sequence[LivePlan]) -> None:
        """Serve these routes, each with its plan, in place of those before.

        Exchanges under way keep their route; what was counted of a name goes on being counted.
        """
        lives = {live.plan.route: live for live in plans}
        states = []
        for settings in routes:
            state = RouteState(settings, says_served_by=self._served_by)
            known = self._routes.get(settings.name)
            if known is not None:
                state.take_over(known)
            state.apply(lives[settings.name], partial(self._endpoint, settings.upstream))
            states.append(state)
        self._routes |= {state.settings.name: state for state in states}
        self._flow.serve(states, _looked_at(routes))
        self._retire_unused()
        self.look_at_files()

    def rehearse(self, routes: Sequence[RouteSettings], plans: Sequence[LivePlan]) -> None:
        """Raise what `replace` or `apply` with these would raise; nothing changes.

        Raises:
            KeyError: a plan is of no route, or a route has no plan.
        """
        states = {
            settings.name: RouteState(settings, says_served_by=self._served_by)
            for settings in routes
        }
        for live in plans:
            state = states[live.plan.route]
            state.apply(live, partial(_unused_endpoint, state.settings.upstream))
        if missing := [name for name, state in states.items() if not hasattr(state, "live")]:
            raise KeyError(f"no plan for {missing}")

    def live(self, route: str) -> LivePlan:
        """The plan in force; KeyError where the route is unknown."""
        return self._routes[route].live

    def _endpoint(self, settings: UpstreamSettings, url: str) -> Upstreams:
        """Routes that say the same about their upstreams share pools."""
        key = (url, settings)
        endpoint = self._endpoints.get(key)
        if endpoint is None:
            endpoint = self._endpoints[key] = Endpoint(url, settings)
            if self._sweeping is not None:
                self._checks.start(endpoint)
        return endpoint

    def _retire_unused(self) -> None:
        used = {
            (url, route.settings.upstream)
            for route in self._flow.routes
            if hasattr(route, "live")
            for slot in _slots(route.live).values()
            for url in slot.endpoints
        }
        for key in self._endpoints.keys() - used:
            endpoint = self._endpoints.pop(key)
            endpoint.retired = True
            self._checks.stop(endpoint)
            _close_idle(endpoint)

    def _dial(self, endpoint: Upstreams, connect_s: float) -> None:
        dial(self._flow, self._contexts, endpoint, connect_s)

    # ---- serving ------------------------------------------------------------------------------

    async def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Accept clients from these listening sockets, and no longer from any other.

        A socket is only borrowed: what waits in its queue stays there when it is given back.
        """
        missing = [route.settings.name for route in self._flow.routes if not hasattr(route, "live")]
        assert not missing, f"no plan applied for {missing}"
        for each in [each for each in self._acceptors if each not in sockets]:
            self._acceptors.pop(each).close()
        for each in sockets:
            if each not in self._acceptors:
                client = partial(Downstream, self._flow)
                acceptor = Acceptor(each.dup(), client, self._contexts.listener)
                await acceptor.start()
                self._acceptors[each] = acceptor
        if self._sweeping is None:
            self._sweep()
            for endpoint in self._endpoints.values():
                self._checks.start(endpoint)

    async def accept_waiting(self) -> None:
        """Take in whoever has connected already, before the end.

        Where no other process has a listening socket, closing it resets what waits in its queue.
        """
        ends_ns = monotonic_ns() + int(LAST_ACCEPTS_S * SECOND_NS)
        for each in self._acceptors.values():
            while each.is_behind() and monotonic_ns() < ends_ns:  # noqa: ASYNC110 - the kernel says
                await asyncio.sleep(0)

    async def drain(self, timeout_s: float, idle_s: float = 0.0) -> int:
        """Stop accepting and let what is under way finish; how many exchanges were cut.

        A connection on which nothing happens is closed once that has been so for `idle_s`: its
        client may be about to send. Whatever it sends until then is answered, and closes it. Copies
        to a mirror have the same time as what clients wait for.
        """
        flow = self._flow
        flow.closing = True
        flow.client_idle_ns = int(idle_s * SECOND_NS)
        self._stop_accepting()
        for connection in flow.connections:
            connection.close_if_idle(flow.client_idle_ns)
        cut = 0
        if not flow.is_empty:
            flow.on_empty = self._emptied.set
            try:
                async with asyncio.timeout(timeout_s):
                    await self._emptied.wait()
            except TimeoutError:
                cut = flow.in_flight
        for connection in flow.connections:
            connection.cut()
        flow.cut_mirrors()
        self._checks.stop_all()
        for endpoint in self._endpoints.values():
            endpoint.retired = True
            _close_idle(endpoint)
        if self._sweeping is not None:
            self._sweeping.cancel()
        await asyncio.sleep(0)  # let the transports just closed report it
        return cut

    def _stop_accepting(self) -> None:
        for each in self._acceptors.values():
            each.close()
        self._acceptors.clear()

    def _sweep(self) -> None:
        """Once a tick: late connections, idle upstream connections, the time of day."""
        self._sweeping = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        now_ns = monotonic_ns()
        for connection in self._flow.connections.expired(now_ns):
            connection.on_deadline()
        if self._flow.mirrors:
            self._flow.end_late_mirrors(now_ns)
        if self._flow.has_totals:
            self._flow.end_overlong(now_ns)
        for endpoint in self._endpoints.values():
            for upstream in endpoint.take_stale(now_ns):
                upstream.transport.close()
        if now_ns - self._clock_read_ns >= SECOND_NS:
            self._clock_read_ns = now_ns
            self._flow.second_passed()
        if now_ns - self._looked_at_files_ns >= LOOK_S * SECOND_NS and (
            self._looking is None or self._looking.done()  # a disk may not answer for long
        ):
            self.look_at_files()

    def look_at_files(self) -> None:
        """Read certificates again that have changed on disk, off the loop."""
        self._looked_at_files_ns = monotonic_ns()
        if self._contexts.names_files:
            self._looking = spawn(asyncio.to_thread(self._contexts.refresh), name="certificates")

    # ---- what passed --------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Exchanges with an arm that have not ended."""
        return self._flow.in_flight

    @property
    def connections(self) -> int:
        """Open client connections."""
        return len(self._flow.connections)

    @property
    def refused(self) -> dict[int, int]:
        """Requests answered before they were routed, by status, since the start."""
        return dict(self._flow.refused)

    def take_tally(self, second: int) -> Tally:
        """Counts up to and with `second` since the last call. Nothing may end in it any more."""
        flow = self._flow
        flow.tallied_second = max(flow.tallied_second, second)
        now_ns = monotonic_ns()
        ages: dict[TallyCell, list[float]] = {}
        current = [each.current for each in flow.connections if each.current is not None]
        for exchange in (*current, *flow.mirrors):
            if State.RECEIVED < exchange.state < State.ENDED:
                age_s = (now_ns - exchange.started_ns) / SECOND_NS
                ages.setdefault(exchange.lane.cell, []).append(age_s)
        entries = [
            entry
            for route in self._routes.values()
            for entry in self._take_cells(route, second, ages)
        ]
        return Tally(worker=self._worker, second=second, entries=tuple(entries))

    @staticmethod
    def _take_cells(
        route: RouteState, second: int, ages: dict[TallyCell, list[float]]
    ) -> Iterator[TallyEntry]:
        generation = route.live.plan.generation
        for key, cell in list(route.cells.items()):
            entry = cell.take(second, ages.get(cell, ()))
            if entry is not None:
                yield entry
            if cell.generation != generation and cell.is_empty and cell not in ages:
                del route.cells[key]

    @property
    def routes(self) -> list[str]:
        """Names of every route that was ever served."""
        return list(self._routes)

    def counters(self) -> Iterator[SeriesCounters]:
        """Every series that has counted anything, since the start."""
        for route in self._routes.values():
            for series in route.series.values():
                yield from (each for each in series if each.count)

    def mirrors_skipped(self) -> dict[str, dict[str, int]]:
        """By route and reason, since the start."""
        return {name: dict(route.mirroring.skipped) for name, route in self._routes.items()}

    def arms(self, route: str) -> dict[str, ArmCounters]:
        """Counts by arm since the start; KeyError where the route is unknown."""
        return {
            arm: ArmCounters(
                requests=count.requests, errors=count.errors, cancelled=count.cancelled
            )
            for arm, count in self._routes[route].arm_counts.items()
        }

    def upstreams(self, route: str) -> dict[str, list[UpstreamHealth]]:
        """By slot. Healthy until it refuses connections, is ejected, or its checks fail."""
        now_ns = monotonic_ns()
        state = self._routes[route]
        settings = state.settings.upstream
        return {
            name: [self._health((url, settings), now_ns) for url in slot.endpoints]
            for name, slot in _slots(state.live).items()
        }

    def _health(self, key: PoolKey, now_ns: int) -> UpstreamHealth:
        endpoint = self._endpoints[key]
        return UpstreamHealth(
            endpoint=endpoint.url,
            healthy=endpoint.is_well(now_ns),
            open_connections=endpoint.open,
            reason=endpoint.problem(now_ns),
            outstanding=endpoint.outstanding,
            pending=len(endpoint.waiters),
            ejections=endpoint.ejections,
        )


def _unused_endpoint(settings: UpstreamSettings, url: str) -> Upstreams:
    return Endpoint(url, settings)


def _later(callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(callback)


def _slots(live: LivePlan) -> dict[str, Slot]:
    plan = live.plan
    slots = {"stable": plan.stable, "canary": plan.canary, "previous": plan.previous}
    return {name: slot for name, slot in slots.items() if slot is not None}


def _looked_at(routes: Sequence[RouteSettings]) -> set[bytes]:
    """Names of request headers whose values routes and records need."""
    names = {b"traceparent", b"x-record", ASKED_BY}
    for route in routes:
        if route.sticky.header:
            names.add(route.sticky.header.lower().encode())
        if route.sticky.cookie or route.override:
            names.add(b"cookie")
        if route.override:
            names.add(b"x-canary")
        if route.never_canary.header:
            names.add(route.never_canary.header.encode())
    return names


def _close_idle(endpoint: Upstreams) -> None:
    while (connection := endpoint.take()) is not None:
        connection.transport.close()
