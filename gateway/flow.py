"""The way of an exchange through the gateway: arm, attempts, end. One per worker.

The protocols tell it what happened; it decides with the pure core and acts on the connections.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from gateway import answers, outcome
from gateway.deadlines import NEVER, Deadlines
from gateway.exchange import ENDED, EVENTS, NEXT, UNSET, Event, Exchange, State
from gateway.framing import cookie_value, is_request_id
from gateway.lanes import Lane, RouteState
from gateway.outcome import Failure
from gateway.pool import pick
from gateway.record import ExchangeRecord
from gateway.routing import assign
from mlops.contracts.plan import FULL_SHARE_BP
from mlops.contracts.record import Kind

if TYPE_CHECKING:
    from gateway.client_rules import ClientRules
    from gateway.downstream import Downstream
    from gateway.lanes import Upstreams

MAX_JSON_KEY_BYTES: Final = 64 * 1024
"""Longest body that is read for a sticky key; a longer one gets a random key."""

_RECEIVED: Final = int(State.RECEIVED)
_ROUTED: Final = int(State.ROUTED)
_STREAMING: Final = int(State.STREAMING)
_ASSIGNED: Final = int(Event.ASSIGNED)
_ATTEMPT_FAILED: Final = int(Event.ATTEMPT_FAILED)
_OVERRIDE_KIND: Final = 2


class Spool(Protocol):
    """What the request path needs of the spool."""

    @property
    def last_drop_reason(self) -> str: ...

    def offer(self, record: ExchangeRecord) -> bool: ...


class Dialer(Protocol):
    def __call__(self, endpoint: Upstreams, connect_s: float) -> None: ...


Later = Callable[[Callable[[], None]], object]
"""Calls in the next turn of the loop."""


class Flow:
    """Routes, clocks and counters of one worker."""

    def __init__(
        self,
        routes: Sequence[RouteState],
        spool: Spool | None,
        dial: Dialer,
        later: Later,
        rules: ClientRules,
        randomness: Random,
    ) -> None:
        self.routes = tuple(routes)
        self.spool = spool
        self.dial = dial
        self.later = later
        self.rules = rules
        self.only_route = routes[0] if len(routes) == 1 and routes[0].takes_all else None
        self.connections: Deadlines[Downstream] = Deadlines()
        self.closing = False
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
        self._random = randomness

    def read_wall_clock(self) -> None:
        """Take the distance of the time of day from the monotonic clock; once a second."""
        self.offset_ns = time.time_ns() - time.monotonic_ns()

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
            key = self._key(exchange, route)
            if route.override:
                override = _override(headers)
        live = route.live
        # A bucket drawn is as good as a random key's, and nothing has to be remembered.
        bucket = live.bucket_of(key) if key else self._random.randrange(FULL_SHARE_BP)
        assignment = assign(live, bucket, exchange.client.read_ns * 1e-9, override=override)
        request_id = headers.get(b"x-request-id")
        if request_id is None or not is_request_id(request_id):
            self._sequence = number = self._sequence + 1
            request_id = b"%b%010x" % (self._id_prefix, number)
        exchange.request_id = request_id
        exchange.bucket = bucket
        exchange.kind = 0 if assignment.kind is Kind.SERVED else _OVERRIDE_KIND
        exchange.state = NEXT[exchange.state * EVENTS + _ASSIGNED]
        self.in_flight += 1
        route.requests += 1
        self.attempt(exchange, route.lanes[assignment])

    def _key(self, exchange: Exchange, route: RouteState) -> bytes | None:
        if route.sticky_header is not None:
            return exchange.headers.get(route.sticky_header)
        if route.sticky_cookie is not None:
            cookies = exchange.headers.get(b"cookie")
            return cookie_value(cookies, route.sticky_cookie) if cookies else None
        if route.sticky_json is not None and exchange.complete and exchange.is_replayable:
            return json_key(b"".join(exchange.kept), route.sticky_json)
        return None

    # ---- attempts -----------------------------------------------------------------------------

    def attempt(self, exchange: Exchange, lane: Lane, *, fresh: bool = False) -> None:
        """Hand the exchange to a connection of `lane`, or queue it for one."""
        exchange.lane = lane
        only = lane.only_endpoint
        if only is not None and only.idle and not fresh:
            idle = only.idle.pop()
            if not idle.transport.is_closing():
                idle.start(exchange)
                return
        now_ns = time.monotonic_ns()
        endpoints = lane.endpoints
        endpoint: Upstreams | None = endpoints[0]
        assert endpoint is not None
        if len(endpoints) > 1 or endpoint.down_until_ns > now_ns:
            endpoint = pick(
                endpoints, self._random.getrandbits(32), now_ns, even_if_down=lane.is_stable
            )
            if endpoint is None:
                self.failed(exchange, Failure.CONNECT)
                return
        connection = None if fresh else endpoint.take()
        while connection is not None:
            if not connection.transport.is_closing():
                connection.start(exchange)
                return
            connection = endpoint.take()
        if not endpoint.wait(exchange, first=fresh):
            self.failed(exchange, Failure.BUSY)
            return
        exchange.waiting = endpoint
        client = exchange.client
        client.deadline_ns = now_ns + lane.route.connect_ns
        self.dial_if_needed(endpoint, lane.route.connect_s)

    def dial_if_needed(self, endpoint: Upstreams, connect_s: float) -> None:
        if endpoint.may_dial():
            endpoint.dial_begun()
            self.dial(endpoint, connect_s)

    def dial_failed(
        self, endpoint: Upstreams, failure: Failure, reason: str, connect_s: float
    ) -> None:
        """A connection could not be opened: who waits longest is told, the rest go on waiting."""
        endpoint.dial_failed(reason, time.monotonic_ns())
        waiter = endpoint.next_waiter()
        if waiter is not None:
            waiter.waiting = None
            self.failed(waiter, failure)
        self.dial_if_needed(endpoint, connect_s)

    def stale(self, exchange: Exchange) -> bool:
        """A kept connection was closed before it answered: no error, once, if all can be resent."""
        if exchange.retried_stale or not exchange.is_replayable:
            return False
        exchange.retried_stale = True
        exchange.on(_ATTEMPT_FAILED)
        _rewind(exchange)
        self.attempt(exchange, exchange.lane, fresh=True)
        return True

    def failed(self, exchange: Exchange, failure: Failure) -> None:
        """An attempt ended without an answer. Try elsewhere if the route allows, else say so."""
        if exchange.state == _STREAMING:
            self.truncated(exchange)
            return
        if exchange.first_attempt_outcome == UNSET:
            exchange.first_attempt_outcome = failure.outcome
        if self._may_retry(exchange, failure.retry_on, was_sent=failure.was_sent):
            self._again(exchange)
        else:
            self._answer_failure(exchange, failure)

    def retried_status(self, exchange: Exchange, status: int) -> bool:
        """Whether another attempt is made instead of passing on this answer."""
        if not self._may_retry(exchange, str(status), was_sent=True):
            return False
        if exchange.first_attempt_outcome == UNSET:
            exchange.first_attempt_outcome = outcome.OUTCOME_OF_STATUS[status]
        self._again(exchange)
        return True

    def _may_retry(self, exchange: Exchange, word: str, *, was_sent: bool) -> bool:
        route = exchange.route
        assert route is not None
        if (
            exchange.attempts >= route.attempts
            or word not in route.retry_on
            or not exchange.is_replayable
        ):
            return False
        return not was_sent or route.budget.spend(route.requests, time.monotonic_ns())

    def _again(self, exchange: Exchange) -> None:
        lane = exchange.lane
        exchange.attempts += 1
        exchange.on(_ATTEMPT_FAILED)
        _rewind(exchange)
        self.attempt(exchange, lane.failover or lane)

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
        count = lane.arm_count
        count.requests += 1
        if outcome_index or exchange.attempts > 1:
            if exchange.first_attempt_outcome in outcome.ERRORS:
                count.errors += 1
            elif outcome_index == outcome.CANCELLED:
                count.cancelled += 1
        spool = self.spool
        if spool is not None:
            exchange.stamp = lane.stamp
            if not exchange.traceparent:
                exchange.traceparent = exchange.headers.get(b"traceparent", b"")
            withheld = lane.route.withheld(exchange, self._random.random)
            if withheld:
                exchange.withhold(withheld)
            else:
                exchange.set_bodies(lane.route.bodies_bytes)
            if not spool.offer(exchange):
                cell.drop(second, spool.last_drop_reason)

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

    def timed_out(self, exchange: Exchange) -> None:
        """The deadline of the client's connection passed with this exchange on it."""
        client = exchange.client
        client.deadline_ns = NEVER
        if exchange.state == _ROUTED:
            self._abandon(exchange)
            self.failed(exchange, Failure.CONNECT_TIMEOUT)
        elif exchange.state == _STREAMING:
            if client.write_paused:  # it is the client that does not read
                self.client_lost(exchange, exchange.status)
                client.abort()
            else:
                self.truncated(exchange)
        elif exchange.complete or (exchange.upstream is not None and exchange.upstream.is_full):
            self._abandon(exchange)
            self.failed(exchange, Failure.FIRST_BYTE)
        else:
            client.refuse(408, "the rest of the request did not come in time")

    def _answer_failure(self, exchange: Exchange, failure: Failure) -> None:
        status = failure.status
        exchange.status = status
        body = answers.problem(status, failure.message)
        lane, client = exchange.lane, exchange.client
        headers = b"x-request-id: %b\r\n%b" % (exchange.request_id, lane.served_by)
        if status != 504:
            headers += answers.RETRY_AFTER
        exchange.close = exchange.close or self.closing or not exchange.complete
        exchange.response_kept = [body]
        exchange.response_bytes = len(body)
        exchange.response_content_type = b"application/json"
        self.finish(exchange, Event.ANSWERED_HERE, failure.outcome, status, time.monotonic_ns())
        client.write(
            answers.answer(
                status, body, close=exchange.close, head_only=exchange.head_only, headers=headers
            )
        )
        client.exchange_done(exchange)

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
        if self.on_empty is not None and not len(self.connections):
            self.on_empty()

    def refuse(self, status: int) -> None:
        self.refused[status] = self.refused.get(status, 0) + 1


def _rewind(exchange: Exchange) -> None:
    exchange.pending = list(exchange.kept)
    exchange.first_ns = 0
    exchange.upstream = None
    exchange.waiting = None


def _override(headers: dict[bytes, bytes]) -> bool | None:
    """`x-canary: always|never`, then the cookie `canary`; anything else says nothing."""
    word = headers.get(b"x-canary")
    if word is None:
        cookies = headers.get(b"cookie")
        word = cookie_value(cookies, b"canary") if cookies else None
    return {b"always": True, b"never": False}.get(word) if word is not None else None


def json_key(body: bytes, pointer: str) -> bytes | None:
    """What a JSON pointer (RFC 6901) finds in `body`, if it is a text or a number."""
    try:
        value = msgspec.json.decode(body)
        for token in pointer.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            value = value[int(name)] if isinstance(value, list) else value[name]
    except (msgspec.DecodeError, KeyError, IndexError, ValueError, TypeError, RecursionError):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).encode()
