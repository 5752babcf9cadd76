"""From a spooled record to what the feature store takes: a row, a tally or a dead letter. Pure."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from gateway.features.extract import extract
from gateway.features.model import Body, Features
from gateway.record import KINDS, OUTCOMES, WITHHELD, ExchangeRecord, Stamp
from gateway.spool.format import (
    BadRecord,
    Frame,
    RecordType,
    decode_exchange,
    tally_of,
)
from gateway.spool.reader import Position, SpooledRecord
from mlops.contracts.record import Outcome, Row, problems
from mlops.contracts.tally import Tally
from mlops.feature_store.entries import MAX_EXCERPT_CHARS, DeadLetter

log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_NO_TRACE = b"0" * 32
ROW_BYTES = 1_024
"""What a row without features weighs, about."""
NUMBER_BYTES = 32
"""A float in a list."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record, read. Exactly one of `row`, `tally` and `letter` is set."""

    start: Position
    end: Position
    weight_bytes: int
    row: Row | None = None
    tally: Tally | None = None
    letter: DeadLetter | None = None

    @property
    def second(self) -> int:
        """The first second that a final tally after this entry may be about."""
        if self.tally is not None:
            return self.tally.second + 1
        return int(self.row.ended_at.timestamp()) if self.row is not None else 0

    @property
    def ended_at_s(self) -> float | None:
        """Unix time of the end of its exchange, where it has one."""
        return self.row.ended_at.timestamp() if self.row is not None else None


def entry_of(worker: str, start: Position, record: SpooledRecord) -> Entry:
    """Read one record. Never fails: what cannot be read or stored becomes a dead letter."""
    frame = record.frame
    weight = ROW_BYTES + len(frame.body)
    record_id = f"{worker}-{record.segment}-{frame.sequence}"
    try:
        if frame.kind == RecordType.TALLY:
            tally = msgspec.json.decode(tally_of(frame.body), type=Tally)
            return Entry(start, record.end, weight, tally=tally)
        row = _row(record_id, frame)
    except Exception as exc:  # one bad record must not keep the others back
        log.exception("record %s cannot be read", record_id)
        letter = _unread_letter(record_id, frame, f"cannot be read: {exc}")
        return Entry(start, record.end, weight, letter=letter)
    if found := problems(row):
        letter = letter_of(row, "; ".join(found))
        return Entry(start, record.end, weight, letter=letter)
    weight += NUMBER_BYTES * (len(row.embedding) + len(row.retrieved_scores))
    return Entry(start, record.end, weight + len(row.query_text or ""), row=row)


def letter_of(row: Row, reason: str) -> DeadLetter:
    """The dead letter of a row that cannot be stored."""
    excerpt = msgspec.json.encode(row).decode()[:MAX_EXCERPT_CHARS]
    return DeadLetter(
        record_id=row.record_id,
        route=row.route,
        reason=reason,
        payload_excerpt=excerpt,
        at=row.ended_at,
    )


def _row(record_id: str, frame: Frame) -> Row:
    if frame.kind != RecordType.EXCHANGE:
        raise BadRecord(f"type {frame.kind}, expected one of {[int(x) for x in RecordType]}")
    record = decode_exchange(frame.body)
    stamp = _stamp(record.stamp)
    if record.withheld:
        features = Features(missing=[WITHHELD[record.withheld]])
        return _assembled(record_id, record, stamp, features)
    features = extract(
        stamp.profile,
        record.target.decode("latin-1"),
        Body(
            content_type=record.request_content_type.decode("latin-1"),
            content_encoding=record.request_content_encoding.decode("latin-1"),
            data=record.request_body,
            is_cut=record.request_body_cut,
        ),
        Body(
            content_type=record.response_content_type.decode("latin-1"),
            content_encoding=record.response_content_encoding.decode("latin-1"),
            data=record.response_body,
            is_cut=record.response_body_cut or OUTCOMES[record.outcome] == Outcome.TRUNCATED,
        ),
    )
    return _assembled(record_id, record, stamp, features)


def _assembled(record_id: str, record: ExchangeRecord, stamp: Stamp, features: Features) -> Row:
    response_time_ms = features.response_time_ms
    return Row(
        record_id=record_id,
        request_id=record.request_id.decode("utf-8", "replace"),
        trace_id=_trace_id(record.traceparent),
        route=stamp.route,
        model=stamp.model,
        generation=stamp.generation,
        share_bp=stamp.share_bp,
        bucket=record.bucket,
        arm=stamp.arm,
        served_arm=stamp.served_arm,
        version=stamp.version,
        kind=KINDS[record.kind],
        started_at=_EPOCH + timedelta(microseconds=record.started_at_us),
        ended_at=_EPOCH + timedelta(microseconds=record.ended_at_us),
        status=record.status,
        outcome=OUTCOMES[record.outcome],
        first_attempt_outcome=OUTCOMES[record.first_attempt_outcome],
        attempts=record.attempts,
        latency_us=record.latency_us,
        first_byte_us=record.first_byte_us,
        first_event_us=record.first_event_us,
        events=record.events,
        max_event_gap_us=record.max_event_gap_us,
        request_bytes=record.request_bytes,
        response_bytes=record.response_bytes,
        query_id=features.query_id,
        query_text=features.query_text,
        embedding=features.embedding,
        response_time_ms=(
            record.latency_us / 1000 if response_time_ms is None else response_time_ms
        ),
        relevance_score=features.relevance_score,
        user_id=features.user_id,
        session_id=features.session_id,
        prompt_tokens=features.prompt_tokens,
        completion_tokens=features.completion_tokens,
        model_reported=features.model_reported,
        finish_reason=features.finish_reason,
        retrieved_ids=features.retrieved_ids,
        retrieved_scores=features.retrieved_scores,
        features_missing=", ".join(features.missing),
    )


def _trace_id(traceparent: bytes) -> str:
    """The second part of `00-TRACE-PARENT-FLAGS`; empty where it is not one (W3C Trace Context)."""
    found = _TRACEPARENT.match(traceparent)
    return "" if found is None or found[1] == _NO_TRACE else found[1].decode("ascii")


@lru_cache(maxsize=256)  # few plans and arms are in force at a time; each worker's are equal
def _stamp(encoded: bytes) -> Stamp:
    return msgspec.json.decode(encoded, type=Stamp)


def _unread_letter(record_id: str, frame: Frame, reason: str) -> DeadLetter:
    route, at = "", _EPOCH
    try:
        record = decode_exchange(frame.body)
        at = _EPOCH + timedelta(microseconds=record.ended_at_us)
        route = _stamp(record.stamp).route
    except (ValueError, OverflowError):
        pass  # then it is a dead letter without them
    return DeadLetter(
        record_id=record_id,
        route=route,
        reason=reason,
        payload_excerpt=frame.body[:MAX_EXCERPT_CHARS].decode("latin-1"),
        at=at,
    )
