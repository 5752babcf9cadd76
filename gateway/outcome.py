"""How an attempt or an exchange ended, classified once, at the edge; and whether to try again."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final

from gateway.exchange import OUTCOME_INDEX
from mlops.contracts.record import ERROR_OUTCOMES, Outcome, outcome_of_status

OUTCOME_OF_STATUS: Final = tuple(OUTCOME_INDEX[outcome_of_status(status)] for status in range(1000))
"""By status; llhttp lets only three digits through."""

OK: Final = OUTCOME_INDEX[Outcome.OK]
TIMEOUT: Final = OUTCOME_INDEX[Outcome.TIMEOUT]
TRUNCATED: Final = OUTCOME_INDEX[Outcome.TRUNCATED]
CANCELLED: Final = OUTCOME_INDEX[Outcome.CANCELLED]
ERRORS: Final = frozenset(OUTCOME_INDEX[outcome] for outcome in ERROR_OUTCOMES)

CLIENT_CLOSED_STATUS: Final = 499
"""nginx's number for a client that went away; it never goes out on a wire."""


class Failure(Enum):
    """Why an attempt brought no answer. Each knows what it counts as and what the client is told.

    `retry_on` is the word of the route's `retry.on` that allows another attempt; empty: never.
    """

    CONNECT = (Outcome.UPSTREAM_ERROR, 502, "connect", "no connection to the upstream")
    CONNECT_TIMEOUT = (Outcome.UPSTREAM_ERROR, 504, "connect", "no connection in time")
    UNHEALTHY = (Outcome.UPSTREAM_ERROR, 503, "connect", "no endpoint of the arm is healthy")
    BUSY = (Outcome.UPSTREAM_ERROR, 503, "connect", "too many requests wait for the upstream")
    OVERLOADED = (
        Outcome.UPSTREAM_ERROR, 503, "connect", "the circuit breaker is open: too many requests",
    )  # fmt: skip
    RESET = (Outcome.RESET, 502, "reset", "the upstream closed the connection without an answer")
    GARBAGE = (Outcome.RESET, 502, "reset", "the upstream's answer is not HTTP")
    TOTAL = (Outcome.TIMEOUT, 504, "", "the exchange took longer than its route allows")
    FIRST_BYTE = (Outcome.TIMEOUT, 504, "", "the upstream did not answer in time")

    def __init__(self, outcome: Outcome, status: int, retry_on: str, message: str) -> None:
        self.outcome = OUTCOME_INDEX[outcome]
        self.status = status
        self.retry_on = retry_on
        self.message = message

    @property
    def was_sent(self) -> bool:
        """Whether the upstream may have seen the request."""
        return self.retry_on != "connect"

    @property
    def asked_nobody(self) -> bool:
        """It was said here, at once: the same arm would be refused again, another is no retry."""
        return self in (Failure.UNHEALTHY, Failure.BUSY, Failure.OVERLOADED)


RETRY_FLOOR: Final = 10
"""Retries allowed in a window whatever the traffic: a quiet route must be able to retry at all."""

RETRY_WINDOW_S: Final = 10
"""Ten seconds, as in Finagle and linkerd: long enough to smooth, short enough to recover."""


class RetryBudget:
    """Retries as a share of recent requests, so that a sick upstream is not hit twice as hard.

    Only requests that may have reached an upstream spend it: one whose connection was refused
    costs nobody anything twice. Requests before a failure count: where hundreds fail at a time,
    most of what they may spend was earned by then.
    """

    __slots__ = ("_floor", "_percent", "_seconds", "_spent")

    def __init__(self, percent: float, floor: int = RETRY_FLOOR, requests: int = 0) -> None:
        """`requests` of the route until now, which earn nothing."""
        self._percent = percent
        self._floor = floor if percent > 0 else 0
        self._spent = 0
        self._seconds: deque[tuple[int, int]] = deque([(requests, 0)], maxlen=RETRY_WINDOW_S)
        """Requests and retries at the start of each of the last seconds."""

    def second_passed(self, requests: int) -> None:
        """Called once a second, whatever happens. `requests` as in `spend`."""
        self._seconds.append((requests, self._spent))

    def spend(self, requests: int) -> bool:
        """Take one retry if there is one. `requests` counts all of the route since its start."""
        requests_before, spent_before = self._seconds[0]
        recent, spent = requests - requests_before, self._spent - spent_before
        if spent >= self._floor + recent * self._percent / 100:
            return False
        self._spent += 1
        return True
