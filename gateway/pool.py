"""Connections to one endpoint, counted: which are idle, how many are open, who waits for one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

MAX_CONNECTIONS: Final = 1024
"""Per endpoint and worker, open or being opened: an eighth of Debian's usual 8,192 descriptors."""

MAX_IDLE: Final = 256
"""Kept open per endpoint when nothing uses them; above it a connection is closed after use."""

MAX_WAITERS: Final = 2048
"""Requests that may wait for a connection, two for each; the next one is answered 503 at once."""

IDLE_NS: Final = 4_000_000_000
"""Under the 5 s after which uvicorn closes, the shortest in common use: we close first."""

DOWN_AFTER_FAILURES: Final = 3
"""Refused connections in a row until an endpoint is passed over."""

DOWN_NS: Final = 1_000_000_000
"""How long an endpoint is passed over before one request may try it again."""


class Pooled(Protocol):
    idle_since_ns: int


C = TypeVar("C", bound=Pooled)
W = TypeVar("W")


class Endpoint(Generic[C, W]):
    """The pool of one address. A connection is dialing, in use or idle; counts are kept.

    `waiters` get connections in the order in which they came. The shell dials when `may_dial()`.
    """

    __slots__ = (
        "dialing",
        "down_until_ns",
        "failures",
        "idle",
        "max_connections",
        "max_waiters",
        "open",
        "reason",
        "retired",
        "url",
        "waiters",
    )

    def __init__(
        self, url: str, max_connections: int = MAX_CONNECTIONS, max_waiters: int = MAX_WAITERS
    ) -> None:
        self.url = url
        self.max_connections = max_connections
        self.max_waiters = max_waiters
        self.idle: deque[C] = deque()
        self.waiters: deque[W] = deque()
        self.open = 0
        self.dialing = 0
        self.failures = 0
        self.down_until_ns = 0
        self.reason = ""
        self.retired = False

    @property
    def outstanding(self) -> int:
        """Requests it works on, or that wait for it."""
        return self.open - len(self.idle) + len(self.waiters)

    def take(self) -> C | None:
        """The idle connection used last: the likeliest to be still open."""
        return self.idle.pop() if self.idle else None

    def may_dial(self) -> bool:
        """Whether somebody waits whom no dial under way will serve, and there is room."""
        return self.dialing < len(self.waiters) and self.open + self.dialing < self.max_connections

    def wait(self, waiter: W, *, first: bool = False) -> bool:
        """Queue for a connection; False where the queue is full."""
        if len(self.waiters) >= self.max_waiters:
            return False
        if first:
            self.waiters.appendleft(waiter)
        else:
            self.waiters.append(waiter)
        return True

    def give_up(self, waiter: W) -> None:
        if waiter in self.waiters:
            self.waiters.remove(waiter)

    def next_waiter(self) -> W | None:
        return self.waiters.popleft() if self.waiters else None

    def dial_begun(self) -> None:
        self.dialing += 1

    def dialled(self) -> None:
        self.dialing -= 1
        self.open += 1
        self.failures = 0
        self.down_until_ns = 0
        self.reason = ""

    def dial_failed(self, reason: str, now_ns: int) -> None:
        self.dialing -= 1
        self.failures += 1
        self.reason = reason
        if self.failures >= DOWN_AFTER_FAILURES:
            self.down_until_ns = now_ns + DOWN_NS

    def put_back(self, connection: C, now_ns: int) -> bool:
        """Keep a connection for later; False where it should be closed instead."""
        if self.retired or len(self.idle) >= MAX_IDLE:
            return False
        connection.idle_since_ns = now_ns
        self.idle.append(connection)
        return True

    def closed(self, connection: C) -> None:
        self.open -= 1
        if connection in self.idle:
            self.idle.remove(connection)

    def take_stale(self, now_ns: int) -> list[C]:
        """Connections that have been idle for too long, no longer in the pool."""
        stale: list[C] = []
        while self.idle and self.idle[0].idle_since_ns + IDLE_NS <= now_ns:
            stale.append(self.idle.popleft())
        return stale


def pick(
    endpoints: Sequence[Endpoint[C, W]], random_bits: int, now_ns: int, *, even_if_down: bool
) -> Endpoint[C, W] | None:
    """The less busy of two endpoints drawn with `random_bits`; None where all are passed over."""
    up = [endpoint for endpoint in endpoints if endpoint.down_until_ns <= now_ns]
    if not up:
        if not even_if_down:
            return None
        up = list(endpoints)
    count = len(up)
    if count == 1:
        return up[0]
    index = random_bits % count
    first = up[index]
    second = up[(index + 1 + (random_bits >> 16) % (count - 1)) % count]
    return second if second.outstanding < first.outstanding else first
