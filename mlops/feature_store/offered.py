"""Features handed over directly, as a mapping: checked whole, and made into a row. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from mlops.contracts.record import Kind, Row, outcome_of_status, problems

FEATURES: dict[str, Any] = {
    "query_id": str,
    "query_text": str,
    "embedding": list[float],
    "response_time_ms": float,
    "relevance_score": float,
    "user_id": str,
    "session_id": str,
    "prompt_tokens": int,
    "completion_tokens": int,
    "model_reported": str,
    "finish_reason": str,
    "retrieved_ids": list[str],
    "retrieved_scores": list[float],
}
"""What a caller may say of a query, and its type. Empty and None both mean absent."""

CONTEXT: dict[str, Any] = {
    "request_id": str,
    "route": str,
    "model": str,
    "version": str,
    "arm": str,
    "status": int,
    "ended_at": datetime,
}
"""What a caller may say of where it was answered; the rest comes from the store's defaults."""

_REQUIRED = ("query_id", "query_text")


class InvalidFeatures(ValueError):
    """Features that do not fit; `problems` names each, and nothing was stored."""

    def __init__(self, found: list[str], where: str = "") -> None:
        super().__init__(f"{where}{'; '.join(found)}")
        self.problems = found


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """Where features belong that do not say so themselves."""

    route: str = "direct"
    model: str = "rag_embedding_model"
    version: str = "unknown"


def row_of(
    features: Mapping[str, object],
    *,
    record_id: str,
    now: datetime,
    defaults: Defaults,
    where: str = "",
) -> Row:
    """One row of generation 0, which no release ever has: stored and trained on, never judged.

    `embedding` may be any sequence of numbers, an array too. `response_time_ms` gives the row its
    latency. Without `ended_at` the query has ended `now`.

    Raises:
        InvalidFeatures: unknown names, wrong types, values out of range; all of them are named.
    """
    found: list[str] = []
    values: dict[str, Any] = {}
    known = FEATURES | CONTEXT
    for name, value in features.items():
        if name not in known:
            found.append(f"{name!r} is not a feature; expected one of {', '.join(sorted(known))}")
        elif value is not None:
            try:
                values[name] = _converted(value, known[name])
            except (msgspec.ValidationError, TypeError, ValueError) as error:
                found.append(f"{name}: {_lowered(str(error))}")
    found += [
        f"{name} is missing" for name in _REQUIRED if not values.get(name) and name not in found
    ]
    ended_at = values.get("ended_at", now)
    if ended_at.tzinfo is None:
        found.append(f"ended_at {ended_at} has no time zone")
        ended_at = now
    row = _row(values, ended_at.astimezone(UTC), record_id, defaults)
    found += problems(row)
    if not 100 <= row.status <= 599:
        found.append(f"status {row.status} is outside 100..599")
    if found:
        raise InvalidFeatures(found, where)
    return row


def _converted(value: object, kind: Any) -> Any:
    if kind == list[float] and not isinstance(value, list):
        value = [float(number) for number in value]  # type: ignore[attr-defined]  # any sequence
    return msgspec.convert(value, kind, strict=True)


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:].replace("`", "")


def _row(values: Mapping[str, Any], ended_at: datetime, record_id: str, defaults: Defaults) -> Row:
    status = values.get("status", 200)
    outcome = str(outcome_of_status(status))
    latency_ms = max(0.0, min(values.get("response_time_ms", 0.0), 1e9))
    arm = values.get("arm", "stable")
    return Row(
        record_id=record_id,
        request_id=values.get("request_id") or values.get("query_id") or record_id,
        route=values.get("route", defaults.route),
        model=values.get("model", defaults.model),
        generation=0,
        share_bp=0,
        bucket=0,
        arm=arm,
        served_arm=arm,
        version=values.get("version", defaults.version),
        kind=str(Kind.SERVED),
        started_at=ended_at - timedelta(milliseconds=latency_ms),
        ended_at=ended_at,
        status=status,
        outcome=outcome,
        first_attempt_outcome=outcome,
        attempts=1,
        latency_us=round(latency_ms * 1000),
        first_byte_us=0,
        events=0,
        max_event_gap_us=0,
        request_bytes=0,
        response_bytes=0,
        **{name: values[name] for name in FEATURES if name in values},
    )
