"""An exchange as the data path would hand it over."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.record import ExchangeRecord
from gateway.stamp import Stamp


def stamp(**changes: Any) -> bytes:
    values: dict[str, Any] = {
        "route": "rag",
        "model": "rag_embedding_model",
        "generation": 3,
        "share_bp": 500,
        "arm": "canary",
        "served_arm": "canary",
        "version": "1.3.0",
        "profile": "auto",
    }
    return msgspec.json.encode(Stamp(**{**values, **changes}))


def recorded(**changes: Any) -> ExchangeRecord:
    """A question that was answered, but for what is given."""
    values: dict[str, Any] = {
        "stamp": stamp(),
        "request_id": b"7b0d",
        "method": b"POST",
        "target": b"/query",
        "request_content_type": b"application/json",
        "request_content_encoding": b"",
        "response_content_type": b"application/json",
        "response_content_encoding": b"",
        "request_body": b'{"query_text": "why"}',
        "response_body": b'{"relevance_score": 0.5}',
        "request_body_cut": False,
        "response_body_cut": False,
        "started_at_us": 1_790_000_000_000_000,
        "ended_at_us": 1_790_000_000_020_000,
        "latency_us": 20_000,
        "first_byte_us": 12_000,
        "status": 200,
        "outcome": 0,
        "first_attempt_outcome": 0,
        "kind": 0,
        "attempts": 1,
        "bucket": 77,
        "events": 1,
        "max_event_gap_us": 0,
        "request_bytes": 21,
        "response_bytes": 24,
        "withheld": 0,
        "first_event_us": 0,
        "traceparent": b"",
    }
    record = ExchangeRecord()
    for name, value in {**values, **changes}.items():
        setattr(record, name, value)
    return record
