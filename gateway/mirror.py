"""Copies of what stable answered, sent to the canary; nobody waits for their answers. Pure.

A copy is made when the request it is of has ended, so it can neither delay nor fail it. It is an
exchange like any other, ends once and is recorded (`kind = mirror`), but is never sent twice.
"""

from __future__ import annotations

from typing import Final

from gateway.deadlines import NEVER
from gateway.exchange import Event, Exchange, State
from gateway.record import KINDS
from gateway.upstream_settings import MirrorSettings

MIRROR_KIND: Final = KINDS.index("mirror")

_CLIENT_LOST: Final = int(Event.CLIENT_LOST)
_ROUTED: Final = int(State.ROUTED)


class Mirroring:
    """What one route copies, and what it counted."""

    __slots__ = ("outstanding", "share", "skipped", "under_way")

    def __init__(self, settings: MirrorSettings) -> None:
        self.share = settings.percent / 100
        self.outstanding = settings.outstanding
        self.under_way = 0
        self.skipped: dict[str, int] = {}
        """Copies that were drawn but not made, by reason."""

    def skip(self, reason: str) -> None:
        """Count a copy that was drawn and not made."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1


def why_not(exchange: Exchange, event: int, mirroring: Mirroring, *, closing: bool) -> str:
    """Why an exchange that ended with `event` is not copied; empty where it is."""
    if event == _CLIENT_LOST:
        return "cancelled"
    if exchange.upgrade:
        return "upgrade"
    if not exchange.complete or not exchange.is_replayable:
        return "body_not_kept"
    if closing:
        return "draining"
    if mirroring.under_way >= mirroring.outstanding:
        return "outstanding"
    return ""


def copy_of(exchange: Exchange, now_ns: int) -> Exchange:
    """The same request once more, with nobody who waits for the answer."""
    copy = Exchange(Nobody(now_ns), exchange.target, now_ns)
    copy.state = _ROUTED
    copy.kind = MIRROR_KIND
    copy.method, copy.headers = exchange.method, exchange.headers
    copy.parts, copy.raw_head = exchange.parts, exchange.raw_head
    copy.forwarded, copy.trailers = exchange.forwarded, exchange.trailers
    copy.chunked, copy.head_only, copy.http10 = (
        exchange.chunked,
        exchange.head_only,
        exchange.http10,
    )
    copy.close = copy.expects_continue = copy.wants_body = False
    copy.complete = copy.retried_stale = True
    copy.kept, copy.pending = exchange.kept, list(exchange.kept)
    copy.kept_bytes = copy.request_bytes = exchange.request_bytes
    copy.request_id, copy.bucket = exchange.request_id, exchange.bucket
    copy.traceparent = exchange.traceparent
    copy.route = exchange.route
    return copy


class Nobody:
    """In a client's place: takes the answer as fast as it comes, and drops it."""

    __slots__ = ("deadline_ns", "read_ns", "reading_paused", "write_paused")

    def __init__(self, now_ns: int) -> None:
        self.deadline_ns = NEVER
        self.read_ns = now_ns
        self.reading_paused = False
        self.write_paused = False

    def write(self, data: bytes) -> None:
        """Drop it."""

    def refuse(self, status: int, message: str) -> None:
        """Nothing is read from nobody."""
        raise AssertionError(f"a copy was refused: {status} {message}")

    def update_reading(self) -> None:
        """Nothing is read from nobody."""

    def exchange_done(self, exchange: Exchange, now_ns: int) -> None:
        """It is recorded, and forgotten."""

    def switch(self, exchange: Exchange, early: bytes) -> None:
        """A request to switch protocols is not copied."""
        raise AssertionError("a copy switched protocols")

    def abort(self) -> None:
        """There is no connection."""
