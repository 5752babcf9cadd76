"""One request and its answer as a table of states: it ends exactly once, however it ends.

`TRANSITIONS` is the law; everything that changes the state of an exchange goes through it. The
request path reads the same table flattened into a tuple, because it does so five times a request.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol

from gateway.event_stream import EventStream
from gateway.record import OUTCOMES, ExchangeRecord
from mlops.contracts.record import Outcome

if TYPE_CHECKING:
    from gateway.lanes import Lane, RouteState, Upstreams


class State(IntEnum):
    """How far an exchange has come."""

    RECEIVED = 0
    """Its head is read; no arm yet."""
    ROUTED = 1
    """An arm is assigned; waits for a connection to the upstream."""
    SENT = 2
    """Handed to an upstream connection; no byte of the answer passed on."""
    STREAMING = 3
    """The head of the answer has gone to the client: nothing can be retried any more."""
    ENDED = 4


class Event(IntEnum):
    """What can happen to an exchange."""

    ASSIGNED = 0
    SENT = 1
    ATTEMPT_FAILED = 2
    """Nothing has gone to the client and another attempt is made."""
    HEAD = 3
    DONE = 4
    """The last byte of the upstream's answer."""
    ANSWERED_HERE = 5
    """The gateway answers in place of the upstream."""
    UPSTREAM_LOST = 6
    TIMED_OUT = 7
    CLIENT_LOST = 8


ENDINGS: Final = (Event.ANSWERED_HERE, Event.UPSTREAM_LOST, Event.TIMED_OUT, Event.CLIENT_LOST)
"""What can end an exchange at any time; `DONE` only once the head has gone out."""

LIVE: Final = (State.RECEIVED, State.ROUTED, State.SENT, State.STREAMING)

TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.RECEIVED, Event.ASSIGNED): State.ROUTED,
    (State.ROUTED, Event.SENT): State.SENT,
    (State.ROUTED, Event.ATTEMPT_FAILED): State.ROUTED,
    (State.SENT, Event.ATTEMPT_FAILED): State.ROUTED,
    (State.SENT, Event.HEAD): State.STREAMING,
    (State.STREAMING, Event.DONE): State.ENDED,
    **{(state, event): State.ENDED for state in LIVE for event in ENDINGS},
}

EVENTS: Final = len(Event)
FORBIDDEN: Final = -1
NEXT: Final = tuple(
    int(TRANSITIONS.get((state, event), FORBIDDEN)) for state in State for event in Event
)
"""`TRANSITIONS` as one tuple: `NEXT[state * EVENTS + event]`. What is forbidden stays forbidden:
from -1 every event leads to -1, and `end` refuses it."""

ENDED: Final = int(State.ENDED)
UNSET: Final = -1
"""An outcome that is not known yet."""

OUTCOME_INDEX: Final = {Outcome(name): index for index, name in enumerate(OUTCOMES)}


class Closable(Protocol):
    """What a connection's transport is used for from outside."""

    def close(self) -> None:
        """Once what was written has gone out."""

    def is_closing(self) -> bool:
        """Closed, or about to be: nothing more is sent or received."""


class ClientSide(Protocol):
    """The client's connection, as the exchange knows it."""

    deadline_ns: int
    read_ns: int
    reading_paused: bool
    write_paused: bool

    def write(self, data: bytes) -> None:
        """Send; nothing where the client has gone."""

    def refuse(self, status: int, message: str) -> None:
        """Say in turn what the client did wrong, then close."""

    def update_reading(self) -> None:
        """Whether its upstream takes bytes has changed."""

    def exchange_done(self, exchange: Exchange, now_ns: int) -> None:
        """The answer is written whole; the next request may go."""

    def switch(self, exchange: Exchange, early: bytes) -> None:
        """Speak the new protocol from now on; `early` came of it behind the 101."""

    def abort(self) -> None:
        """Close in a way that no client can take for the end of an answer."""


class UpstreamSide(Protocol):
    """A connection to an upstream, as the exchange knows it."""

    idle_since_ns: int
    pool_state: int
    is_full: bool

    @property
    def endpoint(self) -> Upstreams:
        """The pool that it is counted in."""

    @property
    def transport(self) -> Closable:
        """The connection itself, for whether it is open."""

    def start(self, exchange: Exchange) -> None:
        """Send head and body as far as they have come; the exchange is SENT."""

    def send_more(self, exchange: Exchange) -> None:
        """Send what has come of the body since."""

    def abandon(self) -> None:
        """Close at once, without a word to the exchange on it."""

    def pause_reading(self) -> None:
        """Leave the answer to wait; may be said twice."""

    def resume_reading(self) -> None:
        """Read the answer on; may be said twice."""


class NotAllowed(Exception):
    """The shell reported something that cannot happen in this state: a bug of ours."""


class Exchange(ExchangeRecord):
    """One request and its answer, from head to record: it is itself what the spool is offered.

    `parts` is the request's head as it will be sent on, flat: name, colon, value, line end.
    """

    __slots__ = (
        "chunked",
        "client",
        "close",
        "complete",
        "endpoint",
        "expects_continue",
        "first_endpoint",
        "first_ns",
        "forwarded",
        "head_only",
        "headers",
        "http10",
        "is_timed",
        "kept",
        "kept_bytes",
        "lane",
        "own_ns",
        "parts",
        "pending",
        "raw_head",
        "response_kept",
        "response_kept_bytes",
        "retried_stale",
        "route",
        "started_ns",
        "state",
        "stream",
        "trailers",
        "upgrade",
        "upstream",
        "waiting",
        "wants_body",
    )

    # Set by the reader of the request, or when an arm is assigned, before anything reads them:
    headers: dict[bytes, bytes]
    parts: list[bytes]
    pending: list[bytes]
    kept: list[bytes]
    lane: Lane
    chunked: bool
    close: bool
    expects_continue: bool
    head_only: bool
    http10: bool
    wants_body: bool
    first_endpoint: Upstreams | None
    """Of the first attempt; set with the second."""

    def __init__(self, client: ClientSide, target: bytes, started_ns: int) -> None:
        self.client = client
        self.target = target
        self.started_ns = started_ns
        self.state = 0
        self.raw_head = self.forwarded = self.upgrade = self.trailers = b""
        """Of a repeated request, in place of `parts`: request line and field lines as they came.
        `forwarded` and `trailers` are complete lines, too; `upgrade` is the protocol asked for."""
        self.route: RouteState | None = None
        self.upstream: UpstreamSide | None = None
        self.endpoint: Upstreams | None = None
        """That this attempt asks, also once its connection is let go."""
        self.waiting: Upstreams | None = None
        self.kept_bytes = 0
        self.response_kept: list[bytes] = []
        self.response_kept_bytes = 0
        self.complete = self.retried_stale = self.is_timed = False
        self.first_ns = self.own_ns = 0
        self.attempts = 1
        self.request_bytes = self.response_bytes = 0
        self.stream: EventStream | None = None
        """Of an answer that is one."""
        self.first_attempt_outcome = UNSET
        self.response_content_type = self.response_content_encoding = self.traceparent = b""

    def on(self, event: int) -> None:
        """Move on by `event`.

        Raises:
            NotAllowed: the table has no such entry.
        """
        after = NEXT[self.state * EVENTS + event]
        if after < 0:
            raise NotAllowed(f"{Event(event).name} cannot happen in {State(self.state).name}")
        self.state = after

    def end(self, event: int, outcome: int, status: int, now_ns: int, wall_us: int) -> None:
        """Close the record. `wall_us` is the time of day that `now_ns` stands for."""
        after = NEXT[self.state * EVENTS + event]
        if after != ENDED:
            raise NotAllowed(f"{Event(event).name} does not end {State(self.state).name}")
        self.state = ENDED
        latency_us = (now_ns - self.started_ns) // 1000
        self.outcome = outcome
        if self.first_attempt_outcome < 0:
            self.first_attempt_outcome = outcome
        self.status = status
        self.latency_us = latency_us
        self.ended_at_us = wall_us
        self.started_at_us = wall_us - latency_us
        self.first_byte_us = (self.first_ns - self.started_ns) // 1000 if self.first_ns else 0
        stream = self.stream
        if stream is None:
            self.events = self.max_event_gap_us = self.first_event_us = 0
        else:
            first_ns = stream.first_ns
            self.events = stream.events
            self.max_event_gap_us = stream.max_gap_ns // 1000
            self.first_event_us = (first_ns - self.started_ns) // 1000 if first_ns else 0

    def note_answer(self, body: bytes, limit_bytes: int, now_ns: int) -> None:
        """Count a slice of the answer's body, and keep what fits under `limit_bytes` in all."""
        size = len(body)
        self.response_bytes += size
        kept_bytes = self.response_kept_bytes
        if kept_bytes < limit_bytes:
            if kept_bytes + size > limit_bytes:
                body_kept = body[: limit_bytes - kept_bytes]
                self.response_kept.append(body_kept)
                self.response_kept_bytes = limit_bytes
            else:
                self.response_kept.append(body)
                self.response_kept_bytes = kept_bytes + size
        if self.stream is not None:
            self.stream.feed(body, now_ns)

    def withhold(self, reason: int) -> None:
        """Leave the bodies out of the record. `reason` is an index into `WITHHELD`."""
        self.withheld = reason
        self.request_body = self.response_body = b""
        self.request_body_cut = self.response_body_cut = False
        self.request_content_type = self.request_content_encoding = b""

    def set_bodies(self, limit_bytes: int) -> None:
        """Put together the copies of both bodies, at most `limit_bytes` of each."""
        self.withheld = 0
        kept = self.kept
        body = kept[0] if len(kept) == 1 else b"".join(kept)
        if self.kept_bytes > limit_bytes:
            body = body[:limit_bytes]
        self.request_body = body
        self.request_body_cut = len(body) < self.request_bytes
        kept = self.response_kept
        body = kept[0] if len(kept) == 1 else b"".join(kept)
        self.response_body = body[:limit_bytes]
        self.response_body_cut = len(self.response_body) < self.response_bytes
        headers = self.headers
        self.request_content_type = headers.get(b"content-type") or b""
        self.request_content_encoding = headers.get(b"content-encoding") or b""

    @property
    def is_replayable(self) -> bool:
        """Every byte of the body received so far is still here, so it can be sent again."""
        return self.kept_bytes == self.request_bytes
