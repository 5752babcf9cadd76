"""The way of an exchange through the gateway: arm, attempts, end. One per worker.

The protocols tell it what happened; it decides with the pure core and acts on the connections.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

from gateway import answers, outcome
from gateway.attempts import Attempts, Dialer, blame
from gateway.deadlines import CLIENT_IDLE_NS, NEVER, Deadlines
from gateway.exchange import ENDED, EVENTS, NEXT, Event, Exchange, State
from gateway.framing import is_request_id
from gateway.keys import key_of, wish_of
from gateway.lanes import Lane, RouteState
from gateway.mirror import MIRROR_KIND, copy_of, why_not
from gateway.outcome import Failure
from gateway.record import ExchangeRecord
from gateway.routing import assign
from mlops.contracts.plan import FULL_SHARE_BP
from mlops.contracts.record import Kind

if TYPE_CHECKING:
    from gateway.client_rules import ClientRules
    from gateway.downstream import Downstream
    from gateway.observing import Observing

_RECEIVED: Final = int(State.RECEIVED)
_ROUTED: Final = int(State.ROUTED)
_STREAMING: Final = int(State.STREAMING)
_ASSIGNED: Final = int(Event.ASSIGNED)
_DONE: Final = int(Event.DONE)
_OVERRIDE_KIND: Final = 2


class Spool(Protocol):
    """What the request path needs of the spool."""

    @property
    def last_drop_reason(self) -> str:
        """Why the last record was not taken."""

    def offer(self, record: ExchangeRecord) -> bool:
        """Copy the record before returning; False: it was dropped."""


Later = Callable[[Callable[[], None]], object]
"""Calls in the next turn of the loop."""


class Flow(Attempts):
    """Routes, clocks and counters of one worker."""

    def __init__(
        self,
        spool: Spool | None,
        dial: Dialer,
        later: Later,
        rules: ClientRules,
        randomness: Random,
    ) -> None:
        super().__init__(dial, randomness)
        self.rules = rules
        self.serve((), set())
        self.spool = spool
        self.observing: Observing | None = None
        """Set before the first request, where anything of it is asked for."""
        self.later = later
        self.connections: Deadlines[Downstream] = Deadlines()
        self.mirrors: dict[Exchange, None] = {}
        """Copies under way; each route bounds its own."""
        self.closing = False
        self.client_idle_ns = CLIENT_IDLE_NS
        """How long a client's connection may be idle."""
        self.in_flight = 0
        self.on_empty: Callable[[], None] | None = None
        self.refused: dict[int, int] = {}
        """Requests answered before they were routed, by status."""
        self.tallied_second = 0
        """No record may end in this second any more, or before it."""
        self.offset_ns = 0
        self.read_wall_clock()
        self._sequence = 0
        self._id_prefix = secrets.token_hex(6).encode()
        self._id_base = b""
        self._low_digits = [b"%02x" % low for low in range(256)]

    def serve(self, routes: Sequence[RouteState], looked_at: set[bytes]) -> None:
        """Match requests from now on with these; they need the values of these headers."""
        self.routes = tuple(routes)
        self.rules.look_at(looked_at)
        self.only_route = routes[0] if len(routes) == 1 and routes[0].takes_all else None
        self.has_totals = any(route.total_ns for route in routes)

    def read_wall_clock(self) -> None:
        """Take the distance of the time of day from the monotonic clock; once a second."""
        self.offset_ns = time.time_ns() - time.monotonic_ns()

    def second_passed(self) -> None:
        """Called by the sweep, once a second."""
        self.read_wall_clock()
        for route in self.routes:
            route.budget.second_passed(route.requests)

    # ---- from head to arm ---------------------------------------------------------------------

    def match(self, exchange: Exchange) -> RouteState | None:
        """The first route that takes this request."""
        if self.only_route is not None:
            return self.only_route
        host = exchange.headers.get(b"host", b"")
        path = b"/" if exchange.target == b"*" else exchange.target
        for route in self.routes:
            if route.matches(host, path, exchange.method):
                return route
        return None

    def begin(self, exchange: Exchange) -> None:
        """Assign an arm and make the first attempt. The head is whole, the body may not be."""
        route = exchange.route
        assert route is not None
        headers = exchange.headers
        override: bool | None = None
        if route.is_plainly_sticky:
            key = headers.get(route.sticky_header or b"")
        else:
            key = key_of(exchange, route)
            override = wish_of(headers, key, route)
        live = route.live
        # A bucket drawn is as good as a random key's, and nothing has to be remembered.
        bucket = live.bucket_of(key) if key else self._random.randrange(FULL_SHARE_BP)
        assignment = assign(live, bucket, exchange.client.read_ns * 1e-9, override=override)
        request_id = headers.get(b"x-request-id")
        if request_id is None or not is_request_id(request_id):
            request_id = self._new_id()
        exchange.request_id = request_id
        exchange.bucket = bucket
        exchange.kind = 0 if assignment.kind is Kind.SERVED else _OVERRIDE_KIND
        exchange.state = NEXT[exchange.state * EVENTS + _ASSIGNED]
        self.in_flight += 1
        route.requests += 1
        if self.observing is not None:
            self.observing.begun(exchange)
        self.attempt(exchange, route.lanes[assignment])

    def _new_id(self) -> bytes:
        """A request id; its higher digits are written anew only for each 256th."""
        number = self._sequence
        self._sequence = number + 1
        low = number & 0xFF
        if not low:
            self._id_base = b"%b%08x" % (self._id_prefix, number >> 8)
        return self._id_base + self._low_digits[low]

    # ---- endings ------------------------------------------------------------------------------

    def finish(
        self, exchange: Exchange, event: int, outcome_index: int, status: int, now_ns: int
    ) -> None:
        """End the exchange and offer its record; called before the last byte is written."""
        lane = exchange.lane
        wall_us = (now_ns + self.offset_ns) // 1000
        second = wall_us // 1_000_000
        if second <= self.tallied_second:  # the wall clock stepped back, or we were held up
            second = self.tallied_second + 1
            wall_us = second * 1_000_000
        exchange.end(event, outcome_index, status, now_ns, wall_us)
        self.in_flight -= 1
        cell = lane.cell
        answered = cell.answered
        answered[second] = answered.get(second, 0) + 1
        series = lane.series[outcome_index]
        series.add(exchange.latency_us, exchange.first_byte_us, exchange.own_ns // 1000)
        series.request_bytes += exchange.request_bytes
        series.response_bytes += exchange.response_bytes
        lane.arm_count.requests += 1
        if outcome_index or exchange.attempts > 1 or lane.looks_closer:
            self._look_closer(exchange, event, now_ns)
        if self.spool is not None:
            self._record(exchange, lane, second, self.spool)
        if self.observing is not None:
            self.observing.ended(exchange, lane)

    def _record(self, exchange: Exchange, lane: Lane, second: int, spool: Spool) -> None:
        # `stamp_of` for the usual case, without the call.
        once = exchange.attempts == 1
        exchange.stamp = lane.stamps[exchange.endpoint] if once else lane.stamp_of(exchange)
        if not exchange.traceparent:
            exchange.traceparent = exchange.headers.get(b"traceparent", b"")
        withheld = lane.route.withheld(exchange, self._random.random)
        if withheld:
            exchange.withhold(withheld)
        else:
            exchange.set_bodies(lane.route.bodies_bytes)
        if not spool.offer(exchange):
            lane.cell.drop(second, spool.last_drop_reason)

    def _look_closer(self, exchange: Exchange, event: int, now_ns: int) -> None:
        """Errors, retries and copies that are over, and what tells an endpoint that is failing."""
        lane = exchange.lane
        if exchange.attempts > 1:
            lane.route.retrying -= 1
        if exchange.first_attempt_outcome in outcome.ERRORS:
            lane.arm_count.errors += 1
        elif exchange.outcome == outcome.CANCELLED:
            lane.arm_count.cancelled += 1
        upstream = exchange.upstream
        if lane.is_watched and event == _DONE and upstream is not None:
            endpoint = upstream.endpoint
            history = endpoint.history
            if exchange.status >= 500:
                blame(endpoint, lane)
            elif history is not None:
                history.succeeded(now_ns)
        if exchange.kind == MIRROR_KIND:
            lane.route.mirroring.under_way -= 1
            self.mirrors.pop(exchange, None)
            self._tell_when_empty()
        elif lane.mirror is not None:
            self._mirror(exchange, lane.mirror, event)

    def _mirror(self, exchange: Exchange, lane: Lane, event: int) -> None:
        """Send a copy of an ended exchange to `lane`, in the next turn of the loop."""
        mirroring = lane.route.mirroring
        if self._random.random() >= mirroring.share:
            return
        reason = why_not(exchange, event, mirroring, closing=self.closing)
        if reason:
            mirroring.skip(reason)
            return
        copy = copy_of(exchange, time.monotonic_ns())
        copy.lane = lane
        mirroring.under_way += 1
        self.in_flight += 1
        self.mirrors[copy] = None

        def send() -> None:
            if copy.state == _ROUTED:  # not cut meanwhile
                self.attempt(copy, lane)

        self.later(send)

    def truncated(self, exchange: Exchange) -> None:
        """The upstream failed after bytes went out: never passed off as complete."""
        self._abandon(exchange)
        self.finish(
            exchange,
            Event.UPSTREAM_LOST,
            outcome.TRUNCATED,
            exchange.status,
            time.monotonic_ns(),
        )
        exchange.client.abort()

    def client_lost(self, exchange: Exchange, status: int = outcome.CLIENT_CLOSED_STATUS) -> None:
        """The client went away or broke the rules: neutral, and the upstream is let go."""
        if exchange.state in (_RECEIVED, ENDED):
            return
        self._abandon(exchange)
        self.finish(exchange, Event.CLIENT_LOST, outcome.CANCELLED, status, time.monotonic_ns())

    def timed_out(self, exchange: Exchange, *, in_all: bool = False) -> None:
        """The deadline of the client's connection passed with this exchange on it.

        `in_all`: it is the route's bound on the whole exchange that passed.
        """
        client, upstream = exchange.client, exchange.upstream
        client.deadline_ns = NEVER
        if exchange.state == _ROUTED:
            self._abandon(exchange)
            self.failed(exchange, Failure.TOTAL if in_all else Failure.CONNECT_TIMEOUT)
        elif exchange.state == _STREAMING:
            if client.write_paused:  # it is the client that does not read
                self.client_lost(exchange, exchange.status)
                client.abort()
            else:
                self.failed(exchange, Failure.FIRST_BYTE, upstream.endpoint if upstream else None)
        elif exchange.complete or (upstream is not None and upstream.is_full):
            endpoint = upstream.endpoint if upstream is not None else None
            self._abandon(exchange)
            self.failed(exchange, Failure.TOTAL if in_all else Failure.FIRST_BYTE, endpoint)
        else:
            client.refuse(408, "the rest of the request did not come in time")

    def end_overlong(self, now_ns: int) -> None:
        """End exchanges that take longer in all than their route allows; called by the sweep."""
        current = [each.current for each in self.connections if each.current is not None]
        for exchange in (*current, *self.mirrors):
            if exchange.state != _RECEIVED:
                total_ns = exchange.lane.route.total_ns
                if total_ns and now_ns - exchange.started_ns >= total_ns:
                    self.timed_out(exchange, in_all=True)

    def end_late_mirrors(self, now_ns: int) -> None:
        """As for clients' connections, whose deadlines the sweep looks at."""
        for exchange in list(self.mirrors):
            if exchange.client.deadline_ns <= now_ns:
                self.timed_out(exchange)

    def cut_mirrors(self) -> None:
        """Drain is over: their records say that they were cancelled."""
        for exchange in list(self.mirrors):
            self.client_lost(exchange)

    def answer_failure(self, exchange: Exchange, failure: Failure) -> None:
        """Say in the upstream's place what went wrong."""
        status = failure.status
        exchange.status = status
        body = answers.problem(status, failure.message)
        lane, client = exchange.lane, exchange.client
        headers = b"x-request-id: %b\r\n%b" % (exchange.request_id, lane.served_by)
        if status != 504:
            headers += answers.RETRY_AFTER
        exchange.close = exchange.close or self.closing or not exchange.complete
        if not exchange.head_only:
            exchange.response_kept = [body]
            exchange.response_bytes = len(body)
        exchange.response_content_type = b"application/json"
        now_ns = time.monotonic_ns()
        self.finish(exchange, Event.ANSWERED_HERE, failure.outcome, status, now_ns)
        client.write(
            answers.answer(
                status, body, close=exchange.close, head_only=exchange.head_only, headers=headers
            )
        )
        client.exchange_done(exchange, now_ns)

    def _abandon(self, exchange: Exchange) -> None:
        """Let go of whatever the exchange holds or waits for."""
        if exchange.waiting is not None:
            exchange.waiting.give_up(exchange)
            exchange.waiting = None
        if exchange.upstream is not None:
            exchange.upstream.abandon()

    def disconnected(self, client: Downstream) -> None:
        """A client connection is closed."""
        self.connections.discard(client)
        self._tell_when_empty()

    @property
    def is_empty(self) -> bool:
        """No client is connected, and no copy is under way."""
        return not len(self.connections) and not self.mirrors

    def _tell_when_empty(self) -> None:
        if self.on_empty is not None and self.is_empty:
            self.on_empty()

    def refuse(self, status: int) -> None:
        """Count a request that was answered before it had an arm."""
        self.refused[status] = self.refused.get(status, 0) + 1
