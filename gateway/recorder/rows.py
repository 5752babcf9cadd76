"""The row of an exchange: what the spool holds of it, and the features of its bodies. Pure.

Compiled with the features (`gateway.compiled`), so it defines no msgspec types: mypyc drops the
keywords of a class.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from gateway.features.model import Body, Features
from gateway.features.rules import Rules
from gateway.record import KINDS, OUTCOMES, WITHHELD
from gateway.spool.format import BadRecord, SpooledExchange
from gateway.stamp import Stamp
from gateway.trace_context import HEADER_BYTES, parse
from mlops.contracts.record import Outcome, Row

ROW_BYTES = 1_024
"""What a row without features weighs, about; a tally or a dead letter is not much more."""
NUMBER_BYTES = 32
"""A float in a list."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRUNCATED = OUTCOMES.index(Outcome.TRUNCATED)


def row_of(record_id: str, record: SpooledExchange, rules: Rules) -> Row:
    """Raises:
    BadRecord: its stamp cannot be read.
    """
    stamp = stamp_of(record.stamp)
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
        endpoint=stamp.endpoint,
        kind=KINDS[record.kind],
        started_at=_EPOCH + timedelta(microseconds=record.started_at_us),
        ended_at=_EPOCH + timedelta(microseconds=record.ended_at_us),
        status=record.status,
        outcome=OUTCOMES[record.outcome],
        first_attempt_outcome=OUTCOMES[record.first_attempt_outcome],
        first_attempt_endpoint=(
            stamp.endpoint if record.attempts == 1 else stamp.first_attempt_endpoint
        ),
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


@lru_cache(maxsize=1_024)  # few plans, arms, endpoints are in force; each worker's are equal
def stamp_of(encoded: bytes) -> Stamp:
    """What is the same for many records.

    Raises:
        BadRecord: it cannot be read.
    """
    try:
        return msgspec.json.decode(encoded, type=Stamp)
    except msgspec.DecodeError as exc:
        raise BadRecord(f"stamp of {len(encoded)} bytes: {exc}") from exc


def weight_bytes_of(row: Row) -> int:
    """What `row` takes of memory, about; of the bodies that it was read from nothing is kept."""
    chars = len(row.query_text or "") + len(row.query_id or "") + len(row.user_id or "")
    chars += len(row.session_id or "") + sum(map(len, row.retrieved_ids))
    return ROW_BYTES + chars + NUMBER_BYTES * (len(row.embedding) + len(row.retrieved_scores))
