"""A row as the recorder stores it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from mlops.contracts.record import Row


def stored_row(*, ended_at: datetime, **changes: Any) -> Row:
    """A request that stable answered well; it took as long as `latency_us` says."""
    values: dict[str, Any] = {
        "record_id": "w-1-1",
        "request_id": "q1",
        "route": "rag",
        "model": "m",
        "generation": 7,
        "share_bp": 500,
        "bucket": 0,
        "arm": "stable",
        "served_arm": "stable",
        "version": "1.2.0",
        "kind": "served",
        "ended_at": ended_at,
        "status": 200,
        "outcome": "ok",
        "first_attempt_outcome": "ok",
        "attempts": 1,
        "latency_us": 3_000,
        "first_byte_us": 1_000,
        "events": 1,
        "max_event_gap_us": 0,
        "request_bytes": 10,
        "response_bytes": 20,
        **changes,
    }
    took = timedelta(microseconds=values["latency_us"])
    return Row(**{"started_at": ended_at - took, **values})
