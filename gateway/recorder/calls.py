"""What a span needs of a recorded exchange that does not stand in its row. Pure."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from gateway.trace_context import Parent, parse, parse_recorded


class Recorded(Protocol):
    """The part of a spooled exchange that is read here."""

    @property
    def traceparent(self) -> bytes:
        """What the upstream got, or empty."""

    @property
    def method(self) -> bytes:
        """Of the request, as it came."""

    @property
    def target(self) -> bytes:
        """Path and query, as they came."""


class Call(NamedTuple):
    """A request of a sampled trace."""

    trace_id: int
    span_id: int
    """Ours; 0 where the header was only passed on, so that it names the caller's."""
    caller_id: int
    """The span that called us; 0 where the trace began here."""
    method: str
    path: str
    """Without the query."""


def call_of(exchange: Recorded) -> Call | None:
    """None: the exchange belongs to no trace, or to one that is not sampled."""
    traceparent = exchange.traceparent
    if not traceparent:
        return None
    made = parse_recorded(traceparent)
    span: Parent | None
    span, caller = made if made is not None else (parse(traceparent), b"")
    if span is None or not span.is_sampled:
        return None
    own, called_by = (span.span_id, caller) if made is not None else (b"", span.span_id)
    return Call(
        trace_id=int(span.trace_id, 16),
        span_id=int(own or b"0", 16),
        caller_id=int(called_by or b"0", 16),
        method=exchange.method.decode("latin-1"),
        path=exchange.target.partition(b"?")[0].decode("latin-1"),
    )
