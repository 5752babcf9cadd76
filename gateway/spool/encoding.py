"""How an ended exchange becomes the body of a frame, on the request path. See `format`."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.record import ExchangeRecord

EXCHANGE: Final = 1
"""`RecordType.EXCHANGE`, as a plain number."""

_encode_into = msgspec.msgpack.Encoder().encode_into


def encode_exchange(record: ExchangeRecord, sequence: int, body: bytearray) -> None:
    """Make `body` the body of an exchange's frame. Called on the request path.

    One call encodes the numbers, the lengths and the copies of the byte strings; `body`, used
    again and again, is in the cache and costs no allocation. A number out of place is not looked
    for here but where the record is read.
    """
    _encode_into(
        (
            sequence,
            EXCHANGE,
            record.outcome,
            record.first_attempt_outcome,
            record.kind,
            record.attempts,
            record.status,
            record.bucket,
            record.events,
            record.max_event_gap_us,
            record.started_at_us,
            record.ended_at_us,
            record.latency_us,
            record.first_byte_us,
            record.request_bytes,
            record.response_bytes,
            record.request_body_cut,
            record.response_body_cut,
            record.stamp,
            record.request_id,
            record.method,
            record.target,
            record.request_content_type,
            record.request_content_encoding,
            record.response_content_type,
            record.response_content_encoding,
            record.request_body,
            record.response_body,
            record.withheld,
            record.first_event_us,
            record.traceparent,
        ),
        body,
    )
