"""Single queries for people to look at: newest, slowest, worst scored, failed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from mlops.contracts.record import ERROR_OUTCOMES
from mlops.feature_store.tables import ROWS

MAX_QUERIES: Final = 200
MAX_MINUTES: Final = 24 * 60

_ERRORS: Final = ", ".join(f"'{outcome}'" for outcome in sorted(ERROR_OUTCOMES))
ORDERS: Final = {
    "newest": ("1", "ended_at DESC"),
    "slowest": ("1", "latency_us DESC"),
    "worst": ("isNotNull(relevance_score)", "relevance_score ASC, ended_at DESC"),
    "failed": (f"first_attempt_outcome IN ({_ERRORS})", "ended_at DESC"),
}
"""Condition and order of each."""
ARMS: Final = ("stable", "canary", "holdback")


class LoggedQuery(msgspec.Struct, frozen=True, kw_only=True):
    """One row as a person reads it. What redaction dropped is not here: it was never stored."""

    request_id: str
    ended_at: str
    arm: str
    version: str
    endpoint: str
    first_attempt_endpoint: str
    kind: str
    status: int
    outcome: str
    latency_ms: float
    query_text: str | None
    relevance_score: float | None
    retrieved: list[str]
    answer_chars: int | None
    features_missing: str


def queries_sql(order: str, arm: str) -> str:
    """The statement; parameters `route`, `minutes`, `limit`.

    Raises:
        ValueError: no such order or arm.
    """
    if order not in ORDERS:
        raise ValueError(f"order: expected one of {', '.join(ORDERS)}, got {order!r}")
    if arm and arm not in ARMS:
        raise ValueError(f"arm: expected one of {', '.join(ARMS)}, got {arm!r}")
    condition, by = ORDERS[order]
    of_arm = f" AND arm = '{arm}'" if arm else ""
    return f"""SELECT request_id, toString(ended_at), arm, version, endpoint,
  first_attempt_endpoint, kind, status, outcome, latency_us / 1000, query_text, relevance_score,
  retrieved_ids, answer_chars, features_missing
FROM {ROWS}
WHERE route = {{route:String}} AND ended_at > now64(6) - toIntervalMinute({{minutes:UInt32}})
  AND {condition}{of_arm}
ORDER BY {by}
LIMIT {{limit:UInt32}}
SETTINGS max_execution_time = 5"""


def logged_queries(rows: Iterable[Sequence[Any]]) -> list[LoggedQuery]:
    """From the answer."""
    names = LoggedQuery.__struct_fields__
    return [LoggedQuery(**dict(zip(names, row, strict=True))) for row in rows]


TEXTS: Final = f"""SELECT request_id, any(query_text)
FROM {ROWS}
WHERE route = {{route:String}} AND ended_at >= toDateTime64({{since:Int64}} - 600, 6, 'UTC')
  AND ended_at < toDateTime64({{until:Int64}} + 1, 6, 'UTC')
  AND request_id IN {{ids:Array(String)}}
GROUP BY request_id
SETTINGS max_execution_time = 5"""
"""What was asked in some requests."""
