"""What a plan means for the request path, worked out once when it comes into force.

A lane is one way that a request may go: assigned arm, arm that serves, endpoints, and the bytes
that every exchange on it shares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.counters import SeriesCounters, TallyCell, new_series
from gateway.framing import spellings
from gateway.mirror import Mirroring
from gateway.outcome import ERRORS, RetryBudget
from gateway.pool import Endpoint
from gateway.record import WITHHELD
from gateway.routing import Assignment, LivePlan
from gateway.settings import RouteSettings
from gateway.stamp import Stamp
from gateway.upstream_settings import BreakerSettings
from mlops.contracts.plan import FULL_SHARE_BP, Arm, RoutePlan, Slot

if TYPE_CHECKING:
    from gateway.exchange import Exchange, UpstreamSide

    Upstreams = Endpoint[UpstreamSide, Exchange]

MIN_KEPT_BYTES: Final = 64 * 1024
"""Longest body that is kept to send again; a longer request gets one attempt once it is sent."""

MAX_VERSIONS: Final = 32
"""Versions per route whose counters are kept: the last month or two of daily releases."""

MIRRORED: Final = "mirror"
"""In metrics, in an arm's place: copies are nobody's requests."""

SECOND_NS: Final = 1_000_000_000

_NOT_SAMPLED: Final = WITHHELD.index("not_sampled")
_OPTED_OUT: Final = WITHHELD.index("opted_out")


class ArmCount:
    """Since the start, charged to the assigned arm."""

    __slots__ = ("cancelled", "errors", "requests")

    def __init__(self) -> None:
        self.requests = self.errors = self.cancelled = 0


class Lane:
    """One way through the gateway under one plan."""

    __slots__ = (
        "arm_count",
        "breaker",
        "cell",
        "endpoints",
        "failover",
        "headers",
        "is_stable",
        "is_watched",
        "looks_closer",
        "mirror",
        "only_endpoint",
        "replaced",
        "route",
        "series",
        "served_by",
        "slot",
        "stamp",
        "stamps",
    )

    def __init__(
        self,
        route: RouteState,
        arm: Arm,
        served: Arm,
        slot: Slot,
        endpoints: tuple[Upstreams, ...],
        share_bp: int,
    ) -> None:
        settings = route.settings
        self.route = route
        self.slot = slot
        self.endpoints = endpoints
        breaker = settings.circuit_breaker
        self.breaker = breaker if breaker != BreakerSettings() else None
        upstream = settings.upstream
        self.is_watched = upstream.outlier_detection is not None
        weighs = self.is_watched or upstream.health_check is not None or self.breaker is not None
        self.only_endpoint = endpoints[0] if len(endpoints) == 1 and not weighs else None
        """Where nothing has to be weighed, idle connections are taken without looking further."""
        self.is_stable = served is Arm.STABLE
        self.failover: Lane | None = None
        """Where a request goes that this lane's own endpoints could not take."""
        self.mirror: Lane | None = None
        """Where copies of its requests go."""
        self.looks_closer = self.is_watched
        """Whether something is to be done when an exchange ends well, too."""
        self.cell: TallyCell = route.cell(arm, route.live.plan.generation)
        self.arm_count = route.arm_counts[arm]
        self.series = route.series_of(arm.value, slot.version)
        self.headers = b"".join(
            b"%b: %b\r\n" % (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in slot.headers.items()
        )
        self.replaced = frozenset[bytes]().union(
            *(spellings(name.lower().encode("latin-1")) for name in slot.headers)
        )
        """The client's own headers of these names are not passed on, however they are spelt."""
        self.served_by = (
            b"x-served-by: %b;%b\r\n" % (served.encode(), slot.version.encode("latin-1", "replace"))
            if route.says_served_by
            else b""
        )
        self.stamp = Stamp(
            route=settings.name,
            model=settings.model,
            generation=route.live.plan.generation,
            share_bp=share_bp,
            arm=arm,
            served_arm=served,
            version=slot.version,
            profile=settings.record.profile,
        )
        self.stamps: dict[Upstreams | None, bytes] = {
            each: self._encoded(each) for each in (None, *endpoints)
        }
        """Of an exchange with one attempt, by the endpoint that it asked."""

    def _encoded(self, endpoint: Upstreams | None, first: Upstreams | None = None) -> bytes:
        return msgspec.json.encode(
            msgspec.structs.replace(
                self.stamp,
                endpoint=endpoint.url if endpoint is not None else "",
                first_attempt_endpoint=first.url if first is not None else "",
            )
        )

    def stamp_of(self, exchange: Exchange) -> bytes:
        """The stamp of an exchange that ended on this lane, encoded."""
        if exchange.attempts == 1:
            return self.stamps[exchange.endpoint]
        return self._encoded(exchange.endpoint, exchange.first_endpoint)

    def carries_copies(self) -> None:
        """This lane is for mirrored requests only: they are counted apart from clients'."""
        self.arm_count = ArmCount()
        self.series = self.route.series_of(MIRRORED, self.slot.version)
        self.looks_closer = True

    def is_overloaded(self) -> bool:
        """Whether as many requests are under way on this arm as its circuit breaker allows."""
        assert self.breaker is not None
        most = self.breaker.requests
        return most is not None and sum(each.outstanding for each in self.endpoints) >= most

    def has_too_many_pending(self) -> bool:
        """Whether as many wait for a connection as the circuit breaker allows."""
        assert self.breaker is not None
        most = self.breaker.pending
        return most is not None and sum(len(each.waiters) for each in self.endpoints) >= most


class RouteState:
    """One route: its settings as the request path wants them, and the lanes of the live plan."""

    def __init__(self, settings: RouteSettings, *, says_served_by: bool) -> None:
        self.settings = settings
        self.says_served_by = says_served_by
        self.live: LivePlan
        self.lanes: dict[Assignment, Lane] = {}
        self.requests = 0
        self.cells: dict[tuple[str, int], TallyCell] = {}
        self.arm_counts = {arm.value: ArmCount() for arm in Arm}
        self.series: dict[tuple[str, str], list[SeriesCounters]] = {}
        self.prefix = settings.match.prefix.encode()
        self.host = settings.match.host.lower().encode() if settings.match.host else None
        self.methods = settings.match.methods
        self.takes_all = self.prefix == b"/" and self.host is None and not self.methods
        sticky = settings.sticky
        self.sticky_header = sticky.header.lower().encode() if sticky.header else None
        self.sticky_cookie = sticky.cookie.encode() if sticky.cookie else None
        self.sticky_json = sticky.json
        self.override = settings.override
        guard = settings.never_canary
        self.guard_header = guard.header.encode() if guard.header else None
        self.guards_canary = bool(guard.keys or guard.values)
        self.is_plainly_sticky = self.sticky_header is not None and not (
            sticky.cookie or sticky.json or self.override or self.guards_canary
        )
        """Only a header says where a request goes: the usual case has a path of its own."""
        self.connect_s = settings.timeouts.connect_s
        self.connect_ns = int(self.connect_s * SECOND_NS)
        self.first_byte_ns = int(settings.timeouts.first_byte_s * SECOND_NS)
        self.idle_ns = int(settings.timeouts.idle_s * SECOND_NS)
        self.total_ns = int((settings.timeouts.total_s or 0) * SECOND_NS)
        """0: no bound."""
        self.bodies_bytes = settings.record.bodies_bytes
        self.sample = settings.record.sample_percent / 100
        """Share of exchanges, other than errors, whose bodies are kept."""
        self.kept_bytes = max(settings.record.bodies_bytes, MIN_KEPT_BYTES)
        self.attempts = settings.retry.attempts
        self.retry_on = settings.retry.on
        self.retry_statuses = frozenset(int(word) for word in self.retry_on if word.isdigit())
        self.budget = RetryBudget(settings.retry.budget_percent)
        self.mirroring = Mirroring(settings.mirror)
        self.retrying = 0
        """Exchanges under way in a second or later attempt."""

    def is_retrying_enough(self, exchange: Exchange) -> bool:
        """Whether the circuit breaker allows this exchange no further attempt."""
        most = self.settings.circuit_breaker.retries
        return most is not None and exchange.attempts == 1 and self.retrying >= most

    def matches(self, host: bytes, path: bytes, method: bytes) -> bool:
        """Prefixes are compared byte by byte, as in nginx and Envoy: `/v1` takes `/v1x` too."""
        return (
            path.startswith(self.prefix)
            and (self.host is None or _without_port(host) == self.host)
            and (not self.methods or method in self.methods)
        )

    def withheld(self, exchange: Exchange, draw: Callable[[], float]) -> int:
        """Why the bodies of an ended exchange are not kept, as an index into `WITHHELD`; 0: kept.

        The client's word goes before everything; of errors every body is kept. `draw` gives random
        numbers in [0, 1).
        """
        word = exchange.headers.get(b"x-record")
        if word is not None and word.strip().lower() == b"none":
            return _OPTED_OUT
        if (
            self.sample >= 1.0
            or exchange.outcome in ERRORS
            or exchange.first_attempt_outcome in ERRORS
            or draw() < self.sample
        ):
            return 0
        return _NOT_SAMPLED

    def take_over(self, before: RouteState) -> None:
        """Go on counting where the same route with other settings left off."""
        self.requests = before.requests
        percent = self.settings.retry.budget_percent
        self.budget = RetryBudget(percent, requests=self.requests)
        self.cells = before.cells
        self.arm_counts = before.arm_counts
        self.series = before.series
        self.mirroring.skipped = before.mirroring.skipped

    def apply(self, live: LivePlan, endpoint: Callable[[str], Upstreams]) -> None:
        """Replace the plan whole. Exchanges under way keep the lane they have."""
        plan = live.plan
        slots = {arm: slot for arm in Arm if (slot := plan.slot(arm)) is not None}
        pools = {arm: tuple(endpoint(url) for url in slot.endpoints) for arm, slot in slots.items()}
        self.live = live
        stable = pools[Arm.STABLE]
        lanes: dict[Assignment, Lane] = {}
        for way in live.assignments():
            arm = way.arm
            if arm not in slots:
                continue  # its share is 0
            lane = Lane(self, arm, arm, way.slot, pools[arm], way.share_bp)
            if arm is not Arm.STABLE:
                lane.failover = Lane(self, arm, Arm.STABLE, plan.stable, stable, way.share_bp)
            lanes[way] = lane
        if plan.mirror_share_bp is None:
            self.mirroring.share = self.settings.mirror.percent / 100
        else:
            self.mirroring.share = plan.mirror_share_bp / FULL_SHARE_BP
        if self.mirroring.share and plan.canary is not None:
            share_bp = live.canary.share_bp
            mirror = Lane(self, Arm.CANARY, Arm.CANARY, plan.canary, pools[Arm.CANARY], share_bp)
            mirror.carries_copies()
            lanes[live.stable].mirror = mirror
            lanes[live.stable].looks_closer = True
        self.lanes = lanes
        self._forget_versions(plan)

    def cell(self, arm: Arm, generation: int) -> TallyCell:
        """The tally of this arm under that generation; made where there is none."""
        key = (arm.value, generation)
        cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = TallyCell(self.settings.name, arm.value, generation)
        return cell

    def series_of(self, arm: str, version: str) -> list[SeriesCounters]:
        """A counter for each outcome, of an arm (or `MIRRORED`) and a version; made on demand."""
        key = (arm, version)
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = new_series(self.settings.name, arm, version)
        return series

    def _forget_versions(self, plan: RoutePlan) -> None:
        named = {slot.version for arm in Arm if (slot := plan.slot(arm)) is not None}
        for key in [key for key in self.series if key[1] not in named]:
            if len(self.series) <= MAX_VERSIONS * len(Arm):
                return
            del self.series[key]


def _without_port(host: bytes) -> bytes:
    name, colon, port = host.rpartition(b":")
    has_port = colon and (port.isdigit() or not port)  # RFC 3986, 3.2.3: it may be empty
    return (name if has_port else host).lower()
