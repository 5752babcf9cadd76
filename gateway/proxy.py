"""The data plane of one worker: routes, listeners, plans and counts. No admin, no files."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from gateway.client_rules import ClientRules
from gateway.counters import SeriesCounters, TallyCell
from gateway.deadlines import SWEEP_S
from gateway.dialing import dial
from gateway.downstream import Downstream
from gateway.exchange import State
from gateway.flow import Flow, Spool
from gateway.lanes import SECOND_NS, RouteState
from gateway.pool import Endpoint
from gateway.routing import LivePlan
from gateway.settings import Address, ClientSettings, RouteSettings
from mlops.contracts.api import ArmCounters, UpstreamHealth
from mlops.contracts.plan import Slot
from mlops.contracts.tally import Tally, TallyEntry

if TYPE_CHECKING:
    from gateway.lanes import Upstreams

BACKLOG: Final = 1024
"""Connections that the kernel holds until we accept them; its own cap is 4,096."""


class Proxy:
    """Serves clients. Every route needs a plan before `listen`."""

    def __init__(
        self,
        routes: Sequence[RouteSettings],
        spool: Spool | None,
        *,
        clients: ClientSettings | None = None,
        served_by: bool = True,
    ) -> None:
        states = [RouteState(settings, says_served_by=served_by) for settings in routes]
        self._routes = {state.settings.name: state for state in states}
        self._endpoints: dict[str, Upstreams] = {}
        self._servers: list[asyncio.Server] = []
        randomness = Random(secrets.randbits(128))  # noqa: S311 - splits load, guards nothing
        rules = ClientRules(clients or ClientSettings(), _looked_at(routes))
        self._flow = Flow(states, spool, self._dial, _later, rules, randomness)
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
        route.apply(live, self._endpoint)
        self._retire_unused()

    def live(self, route: str) -> LivePlan:
        """The plan in force; KeyError where the route is unknown."""
        return self._routes[route].live

    def _endpoint(self, url: str) -> Upstreams:
        endpoint = self._endpoints.get(url)
        if endpoint is None:
            endpoint = self._endpoints[url] = Endpoint(url)
        return endpoint

    def _retire_unused(self) -> None:
        used = {
            url
            for route in self._routes.values()
            if hasattr(route, "live")
            for slot in _slots(route.live).values()
            for url in slot.endpoints
        }
        for url in [url for url in self._endpoints if url not in used]:
            endpoint = self._endpoints.pop(url)
            endpoint.retired = True
            _close_idle(endpoint)

    def _dial(self, endpoint: Upstreams, connect_s: float) -> None:
        dial(self._flow, endpoint, connect_s)

    # ---- serving ------------------------------------------------------------------------------

    async def listen(
        self, addresses: Sequence[Address], *, reuse_port: bool = False
    ) -> list[Address]:
        """Accept clients; the addresses bound, with port 0 resolved.

        Raises:
            OSError: an address cannot be bound; none of them is then.
        """
        missing = [name for name, route in self._routes.items() if not hasattr(route, "live")]
        assert not missing, f"no plan applied for {missing}"
        loop = asyncio.get_running_loop()
        factory = partial(Downstream, self._flow)
        bound: list[Address] = []
        try:
            for address in addresses:
                if address.path is not None:
                    server: asyncio.Server = await loop.create_unix_server(
                        factory, address.path, backlog=BACKLOG
                    )
                    bound.append(address)
                else:
                    server = await loop.create_server(
                        factory,
                        address.host,
                        address.port,
                        backlog=BACKLOG,
                        reuse_port=reuse_port or None,
                    )
                    port = server.sockets[0].getsockname()[1]
                    bound.append(Address(host=address.host, port=port))
                self._servers.append(server)
        except OSError:
            self._stop_accepting()
            raise
        if self._sweeping is None:
            self._sweep()
        return bound

    async def drain(self, timeout_s: float) -> int:
        """Stop accepting and let what is under way finish; how many exchanges were cut."""
        flow = self._flow
        flow.closing = True
        self._stop_accepting()
        for connection in flow.connections:
            connection.close_if_idle()
        cut = 0
        if len(flow.connections):
            flow.on_empty = self._emptied.set
            try:
                async with asyncio.timeout(timeout_s):
                    await self._emptied.wait()
            except TimeoutError:
                cut = flow.in_flight
        for connection in flow.connections:
            connection.cut()
        for endpoint in self._endpoints.values():
            endpoint.retired = True
            _close_idle(endpoint)
        if self._sweeping is not None:
            self._sweeping.cancel()
        await asyncio.sleep(0)  # let the transports just closed report it
        return cut

    def _stop_accepting(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    def _sweep(self) -> None:
        """Once a tick: late connections, idle upstream connections, the time of day."""
        self._sweeping = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        now_ns = monotonic_ns()
        for connection in self._flow.connections.expired(now_ns):
            connection.on_deadline()
        for endpoint in self._endpoints.values():
            for upstream in endpoint.take_stale(now_ns):
                upstream.transport.close()
        if now_ns - self._clock_read_ns >= SECOND_NS:
            self._clock_read_ns = now_ns
            self._flow.read_wall_clock()

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
        for connection in flow.connections:
            exchange = connection.current
            if exchange is not None and State.RECEIVED < exchange.state < State.ENDED:
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

    def counters(self) -> Iterator[SeriesCounters]:
        """Every series that has counted anything, since the start."""
        for route in self._routes.values():
            for series in route.series.values():
                yield from (each for each in series if each.count)

    def arms(self, route: str) -> dict[str, ArmCounters]:
        return {
            arm: ArmCounters(
                requests=count.requests, errors=count.errors, cancelled=count.cancelled
            )
            for arm, count in self._routes[route].arm_counts.items()
        }

    def upstreams(self, route: str) -> dict[str, list[UpstreamHealth]]:
        """By slot. An endpoint counts as healthy until it refuses connections."""
        now_ns = monotonic_ns()
        return {
            name: [self._health(url, now_ns) for url in slot.endpoints]
            for name, slot in _slots(self._routes[route].live).items()
        }

    def _health(self, url: str, now_ns: int) -> UpstreamHealth:
        endpoint = self._endpoints[url]
        return UpstreamHealth(
            endpoint=url,
            healthy=endpoint.down_until_ns <= now_ns and not endpoint.failures,
            open_connections=endpoint.open,
            reason=endpoint.reason,
        )


def _later(callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(callback)


def _slots(live: LivePlan) -> dict[str, Slot]:
    plan = live.plan
    slots = {"stable": plan.stable, "canary": plan.canary, "previous": plan.previous}
    return {name: slot for name, slot in slots.items() if slot is not None}


def _looked_at(routes: Sequence[RouteSettings]) -> set[bytes]:
    """Names of request headers whose values routes and records need."""
    names = {b"traceparent", b"x-record"}
    for route in routes:
        if route.sticky.header:
            names.add(route.sticky.header.lower().encode())
        if route.sticky.cookie or route.override:
            names.add(b"cookie")
        if route.override:
            names.add(b"x-canary")
    return names


def _close_idle(endpoint: Upstreams) -> None:
    while (connection := endpoint.take()) is not None:
        connection.transport.close()
