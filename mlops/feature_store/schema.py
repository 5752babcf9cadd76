"""Tables of the feature store: names, column types, and the numbered steps that make them.

Every statement of a step can be repeated, so that several processes may migrate at once.
"""

from __future__ import annotations

from math import log
from typing import NamedTuple

from mlops.contracts.evidence import (
    LATENCY_BIN_RATIO,
    LATENCY_FIRST_EDGE_US,
    LATENCY_LAST_BIN,
)
from mlops.contracts.record import ERROR_OUTCOMES, Kind, Outcome

ROWS = "query_features"
SECOND_BATCHES = "second_count_batches"
SECONDS = "second_counts"
TALLIES = "tallies"
EVALUATIONS = "evaluations"
RELEASE_EVENTS = "release_events"
DEAD_LETTERS = "dead_letters"
PERFORMANCE = "model_performance"
COMPLETENESS = "log_completeness"
MIGRATIONS = "schema_migrations"

DEDUPLICATION_WINDOW = 10_000
"""Inserts whose tokens a table remembers: hours of them, while a retry follows within seconds."""

REQUEST_FILTER_ERRORS = 0.0001
"""False hits of the index on request ids: hundreds of scores at once still skip the hour's rows."""

_NAME = "LowCardinality(String)"
_TEXT = "Nullable(String)"

ROW_TYPES: dict[str, str] = {
    "record_id": "String",
    "request_id": "String",
    "trace_id": "String",
    "route": _NAME,
    "model": _NAME,
    "generation": "UInt64",
    "share_bp": "UInt16",
    "bucket": "UInt16",
    "arm": _NAME,
    "served_arm": _NAME,
    "version": _NAME,
    "kind": _NAME,
    "started_at": "DateTime64(6, 'UTC')",
    "ended_at": "DateTime64(6, 'UTC')",
    "status": "UInt16",
    "outcome": _NAME,
    "first_attempt_outcome": _NAME,
    "attempts": "UInt16",
    "latency_us": "UInt64",
    "first_byte_us": "UInt64",
    "first_event_us": "UInt64",
    "events": "UInt64",
    "max_event_gap_us": "UInt64",
    "request_bytes": "UInt64",
    "response_bytes": "UInt64",
    "query_id": _TEXT,
    "query_text": _TEXT,
    "embedding": "Array(Float32)",
    "response_time_ms": "Nullable(Float64)",
    "relevance_score": "Nullable(Float64)",
    "user_id": _TEXT,
    "session_id": _TEXT,
    "prompt_tokens": "Nullable(UInt64)",
    "completion_tokens": "Nullable(UInt64)",
    "model_reported": _TEXT,
    "finish_reason": _TEXT,
    "refused": "Nullable(Bool)",
    "answer_chars": "Nullable(UInt64)",
    "retrieved_ids": "Array(String)",
    "retrieved_scores": "Array(Float64)",
    "retrieved_count": "Nullable(UInt32)",
    "features_missing": _NAME,
}
"""Type of each field of `Row`, in its order."""

_ADDED_ROW_COLUMNS = (
    "trace_id",
    "first_event_us",
    "refused",
    "answer_chars",
    "retrieved_count",
)
"""Columns that came after the first release of the table, by a later step."""

BATCH = "batch"
"""Column beside the row's own: the token of the insert that brought it."""

_CODECS = {
    "started_at": "CODEC(Delta, ZSTD(1))",
    "ended_at": "CODEC(Delta, ZSTD(1))",
    "embedding": "CODEC(ZSTD(1))",
    "query_text": "CODEC(ZSTD(3))",
    "trace_id": "CODEC(ZSTD(1))",
}

TALLY_TYPES: dict[str, str] = {
    "worker": _NAME,
    "second": "DateTime('UTC')",
    "final": "UInt8",
    "routes": f"Array({_NAME})",
    "arms": f"Array({_NAME})",
    "generations": "Array(UInt64)",
    "answered": "Array(UInt64)",
    "dropped": "Array(Map(String, UInt64))",
    "in_flight": "Array(Map(String, UInt64))",
}
EVALUATION_TYPES: dict[str, str] = {
    "request_id": "String",
    "name": _NAME,
    "score": "Float64",
    "received_at": "DateTime64(6, 'UTC')",
    "batch": "String",
    "position": "UInt32",
}
RELEASE_EVENT_TYPES: dict[str, str] = {
    "release_id": "String",
    "route": _NAME,
    "at": "DateTime64(6, 'UTC')",
    "kind": _NAME,
    "actor": _NAME,
    "from_share_bp": "UInt16",
    "to_share_bp": "UInt16",
    "reason": "String",
    "detail_json": "String",
}
DEAD_LETTER_TYPES: dict[str, str] = {
    "record_id": "String",
    "route": _NAME,
    "reason": "String",
    "payload_excerpt": "String",
    "at": "DateTime64(6, 'UTC')",
}

PERFORMANCE_TYPES: dict[str, str] = {
    "model": _NAME,
    "version": _NAME,
    "arm": _NAME,
    "hour": "DateTime('UTC')",
    "requests": "UInt64",
    "errors": "UInt64",
    "cancelled": "UInt64",
    "scored": "UInt64",
    "score_total": "Float64",
    "latency_bins": "Map(UInt16, UInt64)",
    "refreshed_at": "DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')",
}


def bin_sql(column: str) -> str:
    """`latency_bin` of `mlops.contracts.evidence` as an expression; a test compares the two."""
    index = f"floor(log({column} / {LATENCY_FIRST_EDGE_US}) / {log(LATENCY_BIN_RATIO)!r})"
    return (
        f"toUInt16(if({column} <= {LATENCY_FIRST_EDGE_US}, 0, least({LATENCY_LAST_BIN}, {index})))"
    )


def _columns(types: dict[str, str]) -> str:
    return ",\n  ".join(f"{name} {kind} {_CODECS.get(name, '')}" for name, kind in types.items())


def _quoted_list(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


_SERVED = f"kind = '{Kind.SERVED}'"
_REQUEST = f"{_SERVED} AND outcome != '{Outcome.CANCELLED}'"
_CANCELLED = f"{_SERVED} AND outcome = '{Outcome.CANCELLED}'"
_ERROR = f"first_attempt_outcome IN ({_quoted_list([str(o) for o in ERROR_OUTCOMES])})"
_CLIENT_ERROR = f"first_attempt_outcome = '{Outcome.CLIENT_ERROR}'"


def _bins(column: str, condition: str) -> str:
    return f"sumMapIf(map({bin_sql(column)}, toUInt64(1)), {condition})"


AGGREGATION = f"""SELECT
  route, generation, arm, toDateTime(ended_at, 'UTC') AS second, {BATCH},
  count() AS rows,
  countIf({_REQUEST}) AS requests,
  countIf({_REQUEST} AND {_ERROR}) AS errors,
  countIf({_REQUEST} AND {_CLIENT_ERROR}) AS client_errors,
  countIf({_CANCELLED}) AS cancelled,
  {_bins("latency_us", _REQUEST)} AS latency_bins,
  {_bins("first_byte_us", f"{_REQUEST} AND first_byte_us > 0")} AS first_byte_bins,
  {_bins("latency_us", _CANCELLED)} AS cancelled_bins
FROM {ROWS}"""
"""Rows to counts per second and batch; the view and every repair use this one text."""

AGGREGATION_KEYS = f"route, generation, arm, second, {BATCH}"

COUNTS = ("rows", "requests", "errors", "client_errors", "cancelled")
BINS = ("latency_bins", "first_byte_bins", "cancelled_bins")

_FIRST_ROW_TYPES = {
    name: kind for name, kind in ROW_TYPES.items() if name not in _ADDED_ROW_COLUMNS
}

_CREATE_ROWS = f"""CREATE TABLE IF NOT EXISTS {ROWS} (
  {_columns(_FIRST_ROW_TYPES)},
  {BATCH} String CODEC(ZSTD(1)),
  INDEX by_request request_id TYPE bloom_filter({REQUEST_FILTER_ERRORS}) GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toDate(ended_at)
ORDER BY (route, ended_at)
SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}"""

_CREATE_SECOND_BATCHES = f"""CREATE TABLE IF NOT EXISTS {SECOND_BATCHES} (
  route {_NAME}, generation UInt64, arm {_NAME}, second DateTime('UTC'),
  {BATCH} String CODEC(ZSTD(1)),
  {", ".join(f"{name} UInt64" for name in COUNTS)},
  {", ".join(f"{name} Map(UInt16, UInt64)" for name in BINS)}
) ENGINE = ReplacingMergeTree
PARTITION BY toDate(second)
ORDER BY (route, second, generation, arm, {BATCH})
SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}"""

_CREATE_VIEW = f"""CREATE MATERIALIZED VIEW IF NOT EXISTS {SECOND_BATCHES}_view
TO {SECOND_BATCHES} AS
{AGGREGATION}
GROUP BY {AGGREGATION_KEYS}"""

_CREATE_SECONDS = f"""CREATE VIEW IF NOT EXISTS {SECONDS} AS SELECT
  route, generation, arm, second,
  {", ".join(f"sum(b.{name}) AS {name}" for name in COUNTS)},
  {", ".join(f"sumMap(b.{name}) AS {name}" for name in BINS)}
FROM {SECOND_BATCHES} AS b FINAL
GROUP BY route, generation, arm, second"""

_CREATE_COMPLETENESS = f"""CREATE VIEW IF NOT EXISTS {COMPLETENESS} AS SELECT
  route, arm, generation, toStartOfInterval(second, toIntervalSecond(5), 'UTC') AS block,
  sum(stored) AS stored, sum(told) AS answered, sum(lost) AS dropped,
  if(answered = 0, NULL, stored / answered) AS completeness
FROM (
  SELECT route, arm, generation, second, b.rows AS stored,
    toUInt64(0) AS told, toUInt64(0) AS lost
  FROM {SECOND_BATCHES} AS b FINAL
  UNION ALL
  SELECT route, arm, generation, second, toUInt64(0) AS stored,
    count AS told, arraySum(mapValues(reasons)) AS lost
  FROM {TALLIES} FINAL
  ARRAY JOIN routes AS route, arms AS arm, generations AS generation, answered AS count,
    dropped AS reasons
)
GROUP BY route, arm, generation, block"""
"""Rows stored over requests answered, in blocks of five seconds. A last block is not whole yet."""


def _add_column(name: str) -> str:
    """Rows from before have 0, an empty text or NULL there: what they know of it."""
    before = list(ROW_TYPES)[list(ROW_TYPES).index(name) - 1]
    return (
        f"ALTER TABLE {ROWS} ADD COLUMN IF NOT EXISTS {name} {ROW_TYPES[name]} "
        f"{_CODECS.get(name, '')} AFTER {before}"
    )


def _replacing(
    table: str, types: dict[str, str], key: str, day_of: str = "", newest: str = ""
) -> str:
    partition = f"PARTITION BY toDate({day_of})\n" if day_of else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {table} (\n  {_columns(types)}\n) "
        f"ENGINE = ReplacingMergeTree({newest})\n{partition}ORDER BY ({key})"
    )


class Migration(NamedTuple):
    number: int
    name: str
    statements: tuple[str, ...]


CREATE_MIGRATIONS = f"""CREATE TABLE IF NOT EXISTS {MIGRATIONS} (
  number UInt32, name String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
) ENGINE = ReplacingMergeTree ORDER BY number"""

MIGRATION_STEPS: tuple[Migration, ...] = (
    Migration(
        1,
        "rows and counts per second",
        (_CREATE_ROWS, _CREATE_SECOND_BATCHES, _CREATE_VIEW, _CREATE_SECONDS),
    ),
    Migration(
        2,
        "tallies, evaluations, events, dead letters",
        (
            _replacing(TALLIES, TALLY_TYPES, "second, worker, final", "second"),
            _replacing(
                EVALUATIONS, EVALUATION_TYPES, "received_at, batch, position", "received_at"
            ),
            _replacing(
                RELEASE_EVENTS,
                RELEASE_EVENT_TYPES,
                "route, at, release_id, kind, actor, from_share_bp, to_share_bp, reason, "
                "detail_json",
            ),
            _replacing(DEAD_LETTERS, DEAD_LETTER_TYPES, "record_id"),
        ),
    ),
    Migration(
        3,
        "model performance per hour",
        (
            _replacing(
                PERFORMANCE, PERFORMANCE_TYPES, "model, version, arm, hour", newest="refreshed_at"
            ),
        ),
    ),
    Migration(4, "completeness of the log", (_CREATE_COMPLETENESS,)),
    Migration(
        5,
        "traces, first events, refusals, lengths and counts of retrievals",
        tuple(_add_column(name) for name in _ADDED_ROW_COLUMNS),
    ),
)
"""Forward only: a step is never changed once it has been released; a new one is added."""
