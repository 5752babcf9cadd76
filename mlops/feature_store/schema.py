"""Tables of the feature store: names, column types, and the numbered steps that make them.

Every statement of a step can be repeated, so that several processes may migrate at once.
"""

from __future__ import annotations

from typing import NamedTuple

from mlops.feature_store.aggregates import (
    ADDED_BINS,
    ADDED_COUNTS,
    ADDED_SECOND_AGGREGATE,
    BINS,
    COUNTS,
    EMBEDDING_AGGREGATE,
    EMBEDDING_TYPES,
    FIRST_BINS,
    FIRST_COUNTS,
    FIRST_SECOND_AGGREGATE,
    GROUP_BINS,
    SECOND_AGGREGATE,
    Aggregate,
    added_by,
)
from mlops.feature_store.completeness import STORED_AND_ANSWERED
from mlops.feature_store.tables import (
    BATCH,
    COMPLETENESS,
    DEAD_LETTERS,
    EMBEDDING_BATCHES,
    EMBEDDING_SUMS,
    ERASURES,
    EVALUATIONS,
    MIGRATIONS,
    PERFORMANCE,
    RELEASE_EVENTS,
    ROWS,
    SECOND_BATCHES,
    SECONDS,
    TALLIES,
)

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
    "endpoint": _NAME,
    "kind": _NAME,
    "started_at": "DateTime64(6, 'UTC')",
    "ended_at": "DateTime64(6, 'UTC')",
    "status": "UInt16",
    "outcome": _NAME,
    "first_attempt_outcome": _NAME,
    "first_attempt_endpoint": _NAME,
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
_ENDPOINT_COLUMNS = ("endpoint", "first_attempt_endpoint")
_LATER_ROW_COLUMNS = (*_ADDED_ROW_COLUMNS, *_ENDPOINT_COLUMNS)
"""Columns that came after the first release of the table, by a later step."""

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


def _columns(types: dict[str, str]) -> str:
    return ",\n  ".join(f"{name} {kind} {_CODECS.get(name, '')}" for name, kind in types.items())


_FIRST_ROW_TYPES = {
    name: kind for name, kind in ROW_TYPES.items() if name not in _LATER_ROW_COLUMNS
}

_CREATE_ROWS = f"""CREATE TABLE IF NOT EXISTS {ROWS} (
  {_columns(_FIRST_ROW_TYPES)},
  {BATCH} String CODEC(ZSTD(1)),
  INDEX by_request request_id TYPE bloom_filter({REQUEST_FILTER_ERRORS}) GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toDate(ended_at)
ORDER BY (route, ended_at)
SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}"""

_COUNT_TYPE = "UInt64"
_BINS_TYPE = "Map(UInt16, UInt64)"
_SECOND_TYPES = dict.fromkeys(FIRST_COUNTS, _COUNT_TYPE) | dict.fromkeys(FIRST_BINS, _BINS_TYPE)
_ADDED_SECOND_TYPES = dict.fromkeys(ADDED_COUNTS, _COUNT_TYPE) | dict.fromkeys(
    ADDED_BINS, _BINS_TYPE
)
_GROUP_TYPES = dict.fromkeys(GROUP_BINS, _BINS_TYPE)


def _batches(table: str, keys: str, columns: dict[str, str]) -> str:
    """A table of what batches come to: one batch's again replaces it."""
    dims = "dims UInt32, " if "dims" in keys else ""
    return f"""CREATE TABLE IF NOT EXISTS {table} (
  route {_NAME}, generation UInt64, arm {_NAME}, second DateTime('UTC'), {dims}
  {BATCH} String CODEC(ZSTD(1)),
  {_columns(columns)}
) ENGINE = ReplacingMergeTree
PARTITION BY toDate(second)
ORDER BY ({keys})
SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}"""


def _create_view(aggregate: Aggregate) -> str:
    return (
        f"CREATE MATERIALIZED VIEW IF NOT EXISTS {aggregate.view}\n"
        f"TO {aggregate.table} AS\n{aggregate.query}"
    )


def _seconds(create: str, counts: tuple[str, ...], bins: tuple[str, ...]) -> str:
    return f"""{create} {SECONDS} AS SELECT
  route, generation, arm, second,
  {", ".join(f"sum(b.{name}) AS {name}" for name in counts)},
  {", ".join(f"sumMap(b.{name}) AS {name}" for name in bins)}
FROM {SECOND_BATCHES} AS b FINAL
GROUP BY route, generation, arm, second"""


_SECOND_BATCH_KEYS = f"route, second, generation, arm, {BATCH}"


def _more_counts(types: dict[str, str], aggregate: Aggregate) -> tuple[str, ...]:
    """Columns for what a later version counts, and the text of the view that counts it.

    MODIFY QUERY exchanges the text in one step: an insert meets the old text or the new one, and is
    counted by either. What the old one counted has none of the new columns, which then read as not
    known; the view is never away, as it would be between a DROP and a CREATE.
    """
    return (
        *(
            f"ALTER TABLE {aggregate.table} ADD COLUMN IF NOT EXISTS {name} {kind}"
            for name, kind in types.items()
        ),
        f"ALTER TABLE {aggregate.view} MODIFY QUERY\n{aggregate.query}",
    )


_EMBEDDING_BATCH_KEYS = f"route, second, generation, arm, dims, {BATCH}"
_EMBEDDING_SUMS_SQL = ", ".join(
    f"{added_by(kind)}(b.{name}) AS {name}" for name, kind in EMBEDDING_TYPES.items()
)
_CREATE_EMBEDDING_SUMS = f"""CREATE VIEW IF NOT EXISTS {EMBEDDING_SUMS} AS SELECT
  route, generation, arm, second, dims,
  {_EMBEDDING_SUMS_SQL}
FROM {EMBEDDING_BATCHES} AS b FINAL
GROUP BY route, generation, arm, second, dims"""

_CREATE_COMPLETENESS = f"""CREATE VIEW IF NOT EXISTS {COMPLETENESS} AS SELECT
  route, arm, generation, toStartOfInterval(second, toIntervalSecond(5), 'UTC') AS block,
  sum(stored) AS stored, sum(told) AS answered, sum(lost) AS dropped,
  if(answered = 0, NULL, stored / answered) AS completeness
FROM (
  {STORED_AND_ANSWERED.format(where="")}
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


_CREATE_ERASURES = f"""CREATE TABLE IF NOT EXISTS {ERASURES} (
  erasure String, kind {_NAME}, key String, at DateTime('UTC') DEFAULT now('UTC')
) ENGINE = ReplacingMergeTree
PARTITION BY erasure
ORDER BY (kind, key)"""
"""Ids of what an erasure under way takes out. Mutations name this table and no person: their text
stays on disk. An erasure's partition is dropped when all of it is gone."""


class Migration(NamedTuple):
    """One step from an older database to this one; applied once, in order of number."""

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
        (
            _CREATE_ROWS,
            _batches(SECOND_BATCHES, _SECOND_BATCH_KEYS, _SECOND_TYPES),
            _create_view(FIRST_SECOND_AGGREGATE),
            _seconds("CREATE VIEW IF NOT EXISTS", tuple(FIRST_COUNTS), tuple(FIRST_BINS)),
        ),
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
    Migration(
        6,
        "more counts per second, and sums of embeddings",
        (
            *_more_counts(_ADDED_SECOND_TYPES, ADDED_SECOND_AGGREGATE),
            _seconds(
                "CREATE OR REPLACE VIEW",
                (*FIRST_COUNTS, *ADDED_COUNTS),
                (*FIRST_BINS, *ADDED_BINS),
            ),
            _batches(EMBEDDING_BATCHES, _EMBEDDING_BATCH_KEYS, EMBEDDING_TYPES),
            _create_view(EMBEDDING_AGGREGATE),
            _CREATE_EMBEDDING_SUMS,
        ),
    ),
    Migration(
        7,
        "requests and errors per second by groups of keys",
        (
            *_more_counts(_GROUP_TYPES, SECOND_AGGREGATE),
            _seconds("CREATE OR REPLACE VIEW", COUNTS, BINS),
        ),
    ),
    Migration(8, "what is being erased", (_CREATE_ERASURES,)),
    Migration(
        9, "endpoints of the attempts", tuple(_add_column(name) for name in _ENDPOINT_COLUMNS)
    ),
)
"""Forward only: a step is never changed once it has been released; a new one is added."""
