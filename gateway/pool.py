"""Connections to one endpoint, counted: which are idle, how many are open, who waits for one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

from gateway.deadlines import NEVER
from gateway.health import Health
from gateway.outliers import History
from gateway.upstream_settings import UpstreamSettings

DOWN_AFTER_FAILURES: Final = 3
"""Refused connections in a row until an endpoint is passed over."""

DOWN_NS: Final = 1_000_000_000
"""How long an endpoint is passed over before one request may try it again."""


DIALING: Final = 0
RESERVED: Final = 1
"""Open, and meant for one exchange that has not started: nobody else may take or close it."""
IN_USE: Final = 2
IDLE: Final = 3
CLOSED: Final = 4
"""What a connection's `pool_state` may be; it changes here, and where a request starts or ends."""

SECOND_NS: Final = 1_000_000_000


class Pooled(Protocol):
    """What the pool keeps of a connection: since when it is idle (monotonic), and its state."""

    idle_since_ns: int
    pool_state: int


C = TypeVar("C", bound=Pooled)
W = TypeVar("W")

DEFAULTS: Final = UpstreamSettings()


class Endpoint(Generic[C, W]):
    """The pool of one address: connections by state, counts kept, and who waits for one.

    `waiters` get connections in the order in which they came. The shell dials when `may_dial()`.
    """

    __slots__ = (
        "dialing",
        "down_until_ns",
        "ejected_until_ns",
        "ejections",
        "failures",
        "health",
        "history",
        "idle",
        "idle_ns",
        "max_connections",
        "max_idle",
        "max_pending",
        "open",
        "reason",
        "refused_until_ns",
        "retired",
        "settings",
        "url",
        "waiters",
        "why_ejected",
    )

    def __init__(self, url: str, settings: UpstreamSettings = DEFAULTS) -> None:
        self.url = url
        self.settings: Final = settings
        self.max_connections = settings.pool.connections
        self.max_pending = settings.pool.pending
        self.max_idle = settings.pool.idle
        self.idle_ns = int(settings.pool.idle_timeout_s * SECOND_NS)
        self.idle: deque[C] = deque()
        self.waiters: deque[W] = deque()
        self.open = 0
        """Reserved, in use or idle."""
        self.dialing = 0
        self.failures = 0
        self.refused_until_ns = 0
        self.ejected_until_ns = 0
        self.ejections = 0
        """Since the start."""
        self.down_until_ns = 0
        """The latest of these, or `NEVER` while health checks fail: passed over until then."""
        self.reason = ""
        """Why the last connection could not be opened; empty once one could."""
        self.why_ejected = ""
        self.retired = False
        check, outliers = settings.health_check, settings.outlier_detection
        self.health: Final = Health(check) if check is not None else None
        self.history: Final = History(outliers) if outliers is not None else None

    @property
    def host(self) -> str:
        """For a Host header: the address without its scheme."""
        return self.url.partition("://")[2] or "localhost"

    @property
    def outstanding(self) -> int:
        """Requests it works on, or that wait for it."""
        return self.open - len(self.idle) + len(self.waiters)

    def take(self) -> C | None:
        """Reserve the idle connection used last: the likeliest to be still open."""
        if not self.idle:
            return None
        connection = self.idle.pop()
        connection.pool_state = RESERVED
        return connection

    def may_dial(self) -> bool:
        """Whether somebody waits whom no dial under way will serve, and there is room."""
        return self.dialing < len(self.waiters) and self.open + self.dialing < self.max_connections

    def wait(self, waiter: W, *, first: bool = False) -> bool:
        """Queue for a connection; False where the queue is full."""
        if len(self.waiters) >= self.max_pending:
            return False
        if first:
            self.waiters.appendleft(waiter)
        else:
            self.waiters.append(waiter)
        return True

    def give_up(self, waiter: W) -> None:
        """It waits no longer, if it did. O(n), of at most `max_pending`."""
        if waiter in self.waiters:
            self.waiters.remove(waiter)

    def next_waiter(self) -> W | None:
        """Whoever waits longest, no longer in the queue; None where nobody does."""
        return self.waiters.popleft() if self.waiters else None

    def dial_begun(self) -> None:
        """A connection is being opened: `dialled` or `dial_failed` ends that."""
        self.dialing += 1

    def dialled(self, connection: C) -> bool:
        """Reserve a new connection for who waits longest; False where it is lost already.

        A dial that ended so has failed: report it with `dial_failed`.
        """
        if connection.pool_state == CLOSED:
            return False
        assert connection.pool_state == DIALING, connection.pool_state
        connection.pool_state = RESERVED
        self.dialing -= 1
        self.open += 1
        if self.failures:
            self.failures = self.refused_until_ns = 0
            self.reason = ""
            self._weigh()
        return True

    def dial_failed(self, reason: str, now_ns: int) -> None:
        """No connection came of it; `DOWN_AFTER_FAILURES` in a row take the endpoint out."""
        self.dialing -= 1
        self.failures += 1
        self.reason = reason
        if self.failures >= DOWN_AFTER_FAILURES:
            self.refused_until_ns = now_ns + DOWN_NS
            self._weigh()

    def try_again(self, now_ns: int) -> None:
        """A request will see whether it refuses still; until that is known, others pass it over."""
        if self.failures >= DOWN_AFTER_FAILURES:
            self.refused_until_ns = now_ns + DOWN_NS
            self._weigh()

    def is_well(self, now_ns: int) -> bool:
        """It is not passed over, nor only tried because its time has passed."""
        return self.down_until_ns <= now_ns and self.failures < DOWN_AFTER_FAILURES

    def eject(self, until_ns: int, reason: str) -> None:
        """Pass it over until then, because of how its requests ended."""
        self.ejected_until_ns = until_ns
        self.ejections += 1
        self.why_ejected = reason
        self._weigh()

    def checked(self, problem: str) -> bool:
        """Take in one active check; empty: it passed. Whether that changed the verdict."""
        assert self.health is not None
        changed = self.health.checked(problem)
        if changed:
            self._weigh()
        return changed

    def _weigh(self) -> None:
        if self.health is not None and not self.health.healthy:
            self.down_until_ns = NEVER
        else:
            self.down_until_ns = max(self.refused_until_ns, self.ejected_until_ns)

    def problem(self, now_ns: int) -> str:
        """Why it is passed over, or was refused last; empty where all is well."""
        if self.health is not None and not self.health.healthy:
            return f"health check: {self.health.problem}"
        if self.ejected_until_ns > now_ns:
            out_s = (self.ejected_until_ns - now_ns) / SECOND_NS
            return f"ejected for {out_s:.1f} s more: {self.why_ejected}"
        return self.reason if self.failures else ""

    def put_back(self, connection: C, now_ns: int) -> bool:
        """Keep a connection for later; False where it should be closed instead."""
        assert connection.pool_state in (RESERVED, IN_USE), connection.pool_state
        if self.retired or len(self.idle) >= self.max_idle:
            return False
        connection.idle_since_ns = now_ns
        connection.pool_state = IDLE
        self.idle.append(connection)
        return True

    def withdraw(self, connection: C) -> None:
        """Hand it to nobody any more; it is about to be closed."""
        if connection.pool_state == IDLE:
            self.idle.remove(connection)
            connection.pool_state = RESERVED

    def closed(self, connection: C) -> None:
        """The connection is lost, in whatever state it was."""
        self.withdraw(connection)
        if connection.pool_state in (RESERVED, IN_USE):
            self.open -= 1
        connection.pool_state = CLOSED

    def take_stale(self, now_ns: int) -> list[C]:
        """Connections that have been idle for too long, no longer in the pool."""
        stale: list[C] = []
        while self.idle and self.idle[0].idle_since_ns + self.idle_ns <= now_ns:
            connection = self.idle.popleft()
            connection.pool_state = RESERVED
            stale.append(connection)
        return stale


def pick(
    endpoints: Sequence[Endpoint[C, W]],
    random_bits: int,
    now_ns: int,
    *,
    even_if_down: bool,
    avoid: Endpoint[C, W] | None = None,
) -> Endpoint[C, W] | None:
    """The less busy of two endpoints drawn with `random_bits`; None where all are passed over.

    `avoid` failed this request a moment ago, and is picked only where there is no other.
    """
    up = [endpoint for endpoint in endpoints if endpoint.down_until_ns <= now_ns]
    if avoid is not None and len(up) > 1 and avoid in up:
        up.remove(avoid)
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
