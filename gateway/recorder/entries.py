"""From a spooled record to what the feature store takes: a row, a tally or a dead letter. Pure."""

from __future__ import annotations

import logging
import traceback
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from gateway.features.model import Body, Features
from gateway.features.rules import Rules
from gateway.record import KINDS, OUTCOMES, WITHHELD, Stamp
from gateway.recorder.calls import Call, call_of
from gateway.spool.format import (
    BadRecord,
    Frame,
    RecordType,
    SpooledExchange,
    decode_exchange,
    tally_of,
)
from gateway.spool.reader import Position, SpooledRecord
from gateway.trace_context import HEADER_BYTES, parse
from mlops.contracts.record import Outcome, Row, problems
from mlops.contracts.tally import Tally
from mlops.feature_store.entries import MAX_EXCERPT_CHARS, DeadLetter

log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRUNCATED = OUTCOMES.index(Outcome.TRUNCATED)
ROW_BYTES = 1_024
"""What a row without features weighs, about; a tally or a dead letter is not much more."""
NUMBER_BYTES = 32
"""A float in a list."""
_SECOND_US = 1_000_000

Key = tuple[str, str, int]
"""Route, arm and generation: what tallies count by."""
NOBODY: Key = ("", "", 0)
"""Of an exchange of which not even that can be read."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One record, read. Exactly one of `row`, `tally` and `letter` is set."""

    start: Position
    end: Position
    weight_bytes: int
    row: Row | None = None
    tally: Tally | None = None
    letter: DeadLetter | None = None
    key: Key = NOBODY
    ended_at_us: int = 0
    """Of its exchange; 0 of a tally, or where it cannot be read."""
    missing: int = 0
    """Records that the spool has lost just before this one."""
    call: Call | None = None
    """Of an exchange in a sampled trace."""

    @property
    def second(self) -> int:
        """The first second that a final tally after this entry may be about."""
        return self.tally.second + 1 if self.tally is not None else self.ended_at_us // _SECOND_US


def entry_of(worker: str, start: Position, record: SpooledRecord, rules: Rules) -> Entry:
    """Read one record. Never fails: what cannot be read or stored becomes a dead letter."""
    frame = record.frame
    record_id = f"{worker}-{record.segment}-{frame.sequence}"
    missing = max(0, record.missing)
    try:
        if frame.kind == RecordType.TALLY:
            tally = msgspec.json.decode(tally_of(frame.body), type=Tally)
            return Entry(
                start=start, end=record.end, weight_bytes=ROW_BYTES, tally=tally, missing=missing
            )
        exchange = _exchange(frame)
        row = _row(record_id, exchange, rules)
    except Exception as exc:  # one bad record must not keep the others back
        letter = _unread_letter(record_id, frame, _told(record_id, exc))
        return Entry(
            start=start, end=record.end, weight_bytes=ROW_BYTES, letter=letter, missing=missing
        )
    found = problems(row)
    return Entry(
        start=start,
        end=record.end,
        weight_bytes=_weight_bytes(row),
        row=None if found else row,
        letter=letter_of(row, "; ".join(found)) if found else None,
        key=(row.route, row.arm, row.generation),
        ended_at_us=exchange.ended_at_us,
        missing=missing,
        call=call_of(exchange),
    )


def _weight_bytes(row: Row) -> int:
    """What `row` takes of memory, about; of the bodies that it was read from nothing is kept."""
    chars = len(row.query_text or "") + len(row.query_id or "") + len(row.user_id or "")
    chars += len(row.session_id or "") + sum(map(len, row.retrieved_ids))
    return ROW_BYTES + chars + NUMBER_BYTES * (len(row.embedding) + len(row.retrieved_scores))


def _exchange(frame: Frame) -> SpooledExchange:
    if frame.kind != RecordType.EXCHANGE:
        raise BadRecord(f"type {frame.kind}, expected one of {[int(x) for x in RecordType]}")
    return decode_exchange(frame.body)


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


def _row(record_id: str, record: SpooledExchange, rules: Rules) -> Row:
    stamp = _stamp(record.stamp)
    if record.withheld:
        features = Features(missing=[WITHHELD[record.withheld]])
    else:
        features = rules.features(
            stamp.route,
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
                is_cut=record.response_body_cut or record.outcome == _TRUNCATED,
            ),
        )
    return _assembled(record_id, record, stamp, features)


def _assembled(record_id: str, record: SpooledExchange, stamp: Stamp, features: Features) -> Row:
    response_time_ms = features.response_time_ms
    return Row(
        record_id=record_id,
        request_id=record.request_id.decode("utf-8", "replace"),
        trace_id=_trace_id(record.traceparent) if record.traceparent else "",
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
        refused=features.refused,
        answer_chars=features.answer_chars,
        retrieved_ids=features.retrieved_ids,
        retrieved_scores=features.retrieved_scores,
        retrieved_count=features.retrieved_count,
        features_missing=", ".join(features.missing) if features.missing else "",
    )


def _trace_id(traceparent: bytes) -> str:
    """Of what the upstream got (W3C Trace Context); empty where there was no valid one."""
    parent = parse(traceparent[:HEADER_BYTES])
    return parent.trace_id.decode("ascii") if parent is not None else ""


@lru_cache(maxsize=256)  # few plans and arms are in force at a time; each worker's are equal
def _stamp(encoded: bytes) -> Stamp:
    try:
        return msgspec.json.decode(encoded, type=Stamp)
    except msgspec.DecodeError as exc:
        raise BadRecord(f"stamp of {len(encoded)} bytes: {exc}") from exc


def _told(record_id: str, failure: Exception) -> str:
    """Why a record cannot be read: logged, and the reason of its letter.

    Of an exception that is not ours the message is left out: it may quote what is to be redacted.
    """
    reason = type(failure).__name__
    if isinstance(failure, BadRecord):
        reason = str(failure)
    where = "".join(traceback.format_tb(failure.__traceback__)).rstrip()
    log.error("record %s cannot be read: %s\n%s", record_id, reason, where)
    return f"cannot be read: {reason}"


def _unread_letter(record_id: str, frame: Frame, reason: str) -> DeadLetter:
    """Without anything of the bodies: nothing is known of what is to be redacted in them."""
    route, at = "", _EPOCH
    known: dict[str, object] = {"type": frame.kind, "bytes": len(frame.body)}
    try:
        record = decode_exchange(frame.body)
        at = _EPOCH + timedelta(microseconds=record.ended_at_us)
        known |= {"status": record.status, "latency_us": record.latency_us}
        route = _stamp(record.stamp).route
    except (ValueError, OverflowError):
        pass  # then it is a dead letter without them
    return DeadLetter(
        record_id=record_id,
        route=route,
        reason=reason,
        payload_excerpt=msgspec.json.encode(known).decode(),
        at=at,
    )
