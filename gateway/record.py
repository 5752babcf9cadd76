"""What the data path hands to the spool when an exchange has ended."""

from __future__ import annotations


class ExchangeRecord:
    """One ended exchange. Filled in as it happens, read once by `SpoolWriter.offer`.

    Times are microseconds: `started_at_us` and `ended_at_us` of wall time since the epoch, the rest
    durations. Bodies are at most `RecordSettings.bodies_bytes` long; what was cut off is flagged.
    """

    __slots__ = (
        "attempts",
        "bucket",
        "ended_at_us",
        "events",
        "first_attempt_outcome",
        "first_byte_us",
        "first_event_us",
        "kind",
        "latency_us",
        "max_event_gap_us",
        "method",
        "outcome",
        "request_body",
        "request_body_cut",
        "request_bytes",
        "request_content_encoding",
        "request_content_type",
        "request_id",
        "response_body",
        "response_body_cut",
        "response_bytes",
        "response_content_encoding",
        "response_content_type",
        "stamp",
        "started_at_us",
        "status",
        "target",
        "traceparent",
        "withheld",
    )

    stamp: bytes
    """An encoded `Stamp`."""
    request_id: bytes
    method: bytes
    target: bytes
    traceparent: bytes
    """Of the request, as the upstream got it (W3C Trace Context); empty where there was none."""
    request_content_type: bytes
    request_content_encoding: bytes
    response_content_type: bytes
    response_content_encoding: bytes
    request_body: bytes
    response_body: bytes
    request_body_cut: bool
    response_body_cut: bool
    started_at_us: int
    ended_at_us: int
    latency_us: int
    first_byte_us: int
    first_event_us: int
    """To the first server-sent event of the answer; 0 where there was none."""
    status: int
    outcome: int
    """Index into `OUTCOMES`."""
    first_attempt_outcome: int
    kind: int
    """Index into `KINDS`."""
    attempts: int
    bucket: int
    events: int
    max_event_gap_us: int
    request_bytes: int
    response_bytes: int
    withheld: int
    """Index into `WITHHELD`: why the bodies were not kept. The row counts all the same."""


OUTCOMES = ("ok", "client_error", "upstream_error", "timeout", "reset", "truncated", "cancelled")
"""`Outcome` by the number that stands in a record; append only."""

KINDS = ("served", "mirror", "override")
"""`Kind` by the number that stands in a record; append only."""

WITHHELD = ("", "not_sampled", "opted_out")
"""Why a record has no bodies, by the number that stands in it; append only. The words stand in a
row's `features_missing`."""
