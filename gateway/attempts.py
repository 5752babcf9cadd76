"""Attempts of an exchange: which connection it gets, and whether it is tried again."""

from __future__ import annotations

import logging
import time
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

from gateway import outcome
from gateway.exchange import UNSET, Event, Exchange, State
from gateway.lanes import Lane
from gateway.mirror import MIRROR_KIND
from gateway.outcome import Failure
from gateway.outliers import note_failure
from gateway.pool import RESERVED, pick

if TYPE_CHECKING:
    from gateway.lanes import Upstreams

log = logging.getLogger(__name__)

_STREAMING: Final = int(State.STREAMING)
_ATTEMPT_FAILED: Final = int(Event.ATTEMPT_FAILED)


class Dialer(Protocol):
    """Opens one connection in the background: `serve_first` or `dial_failed` is how that ends."""

    def __call__(self, endpoint: Upstreams, connect_s: float) -> None:
        """`endpoint.dial_begun()` has been called. `connect_s` bounds TLS, too."""


class Attempts:
    """The part of `Flow` between the choice of an arm and the first byte of an answer."""

    def __init__(self, dial: Dialer, randomness: Random) -> None:
        self.dial = dial
        self._random = randomness

    def truncated(self, exchange: Exchange) -> None:
        """The upstream failed after bytes went out."""
        raise NotImplementedError

    def answer_failure(self, exchange: Exchange, failure: Failure) -> None:
        """Nothing is left to try."""
        raise NotImplementedError

    def attempt(
        self,
        exchange: Exchange,
        lane: Lane,
        *,
        fresh: bool = False,
        avoid: Upstreams | None = None,
    ) -> None:
        """Hand the exchange to a connection of `lane`, or queue it for one.

        `fresh`: on a new connection. `avoid` failed it a moment ago.
        """
        exchange.lane = lane
        only = lane.only_endpoint
        if only is not None and only.idle and not fresh:
            idle = only.idle.pop()
            if not idle.transport.is_closing():
                idle.start(exchange)
                return
            idle.pool_state = RESERVED
        now_ns = time.monotonic_ns()
        if lane.breaker is not None and lane.is_overloaded():
            self.failed(exchange, Failure.OVERLOADED)
            return
        endpoints = lane.endpoints
        endpoint: Upstreams | None = endpoints[0]
        assert endpoint is not None
        if len(endpoints) > 1 or endpoint.down_until_ns > now_ns:
            bits = self._random.getrandbits(32)
            endpoint = pick(endpoints, bits, now_ns, even_if_down=lane.is_stable, avoid=avoid)
            if endpoint is None:
                self.failed(exchange, Failure.UNHEALTHY)
                return
        connection = None if fresh else endpoint.take()
        while connection is not None:
            if not connection.transport.is_closing():
                connection.start(exchange)
                return
            connection = endpoint.take()
        self._wait(exchange, endpoint, now_ns, first=fresh)

    def _wait(self, exchange: Exchange, endpoint: Upstreams, now_ns: int, *, first: bool) -> None:
        """Queue for a connection, and open one if that helps."""
        lane = exchange.lane
        if lane.breaker is not None and lane.has_too_many_pending():
            self.failed(exchange, Failure.OVERLOADED)
            return
        if not endpoint.wait(exchange, first=first):
            self.failed(exchange, Failure.BUSY)
            return
        exchange.waiting = exchange.endpoint = endpoint
        if endpoint.failures:
            endpoint.try_again(now_ns)
        exchange.client.deadline_ns = now_ns + lane.route.connect_ns
        self.dial_if_needed(endpoint, lane.route.connect_s)

    def dial_if_needed(self, endpoint: Upstreams, connect_s: float) -> None:
        """Open one more connection where somebody waits whom none under way will serve."""
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
            self.failed(waiter, failure, endpoint)
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

    def failed(
        self, exchange: Exchange, failure: Failure, endpoint: Upstreams | None = None
    ) -> None:
        """An attempt ended without an answer. Try elsewhere if the route allows, else say so.

        `endpoint` is to blame, if anybody's server is.
        """
        if endpoint is not None and endpoint.history is not None:
            blame(endpoint, exchange.lane)
        if exchange.state == _STREAMING:
            self.truncated(exchange)
            return
        if exchange.first_attempt_outcome == UNSET:
            exchange.first_attempt_outcome = failure.outcome
        if (
            exchange.lane.failover is not None
            if failure.asked_nobody
            else self._may_retry(exchange, failure.retry_on, was_sent=failure.was_sent)
        ):
            self._again(exchange, endpoint, was_sent=failure.was_sent)
        else:
            self.answer_failure(exchange, failure)

    def retried_status(self, exchange: Exchange, status: int, endpoint: Upstreams) -> bool:
        """Whether another attempt is made instead of passing on this answer."""
        if not self._may_retry(exchange, str(status), was_sent=True):
            return False
        if exchange.first_attempt_outcome == UNSET:
            exchange.first_attempt_outcome = outcome.OUTCOME_OF_STATUS[status]
        if endpoint.history is not None and status >= 500:
            blame(endpoint, exchange.lane)
        self._again(exchange, endpoint, was_sent=True)
        return True

    def _may_retry(self, exchange: Exchange, word: str, *, was_sent: bool) -> bool:
        route = exchange.route
        assert route is not None
        if (
            exchange.attempts >= route.attempts
            or word not in route.retry_on
            or (was_sent and not exchange.is_replayable)
            or exchange.kind == MIRROR_KIND
            or route.is_retrying_enough(exchange)
        ):
            return False
        return not was_sent or route.budget.spend(route.requests)

    def _again(self, exchange: Exchange, avoid: Upstreams | None, *, was_sent: bool) -> None:
        """The next attempt. What was never sent is still as it came, even if more than is kept."""
        lane = exchange.lane
        if exchange.attempts == 1:
            lane.route.retrying += 1
            exchange.first_endpoint = exchange.endpoint
        exchange.attempts += 1
        exchange.on(_ATTEMPT_FAILED)
        if was_sent:
            _rewind(exchange)
        exchange.endpoint = None
        self.attempt(exchange, lane.failover or lane, avoid=avoid)


def blame(endpoint: Upstreams, lane: Lane) -> None:
    """A request failed because of this endpoint; it may be ejected for it."""
    now_ns = time.monotonic_ns()
    if note_failure(endpoint, lane.endpoints, now_ns):
        log.warning("endpoint %s is out: %s", endpoint.url, endpoint.problem(now_ns))


def _rewind(exchange: Exchange) -> None:
    """Make a request that was sent, and is still here, ready to be sent again from its start."""
    exchange.pending = list(exchange.kept)
    exchange.first_ns = 0
    exchange.upstream = None
    exchange.endpoint = None
    exchange.waiting = None
