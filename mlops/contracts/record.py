"""What is known of one answered request: outcomes, and the row that ClickHouse keeps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from mlops.contracts.plan import FULL_SHARE_BP


class Kind(StrEnum):
    """Why the request went where it went. Only `served` is judged."""

    SERVED = "served"
    MIRROR = "mirror"
    OVERRIDE = "override"


class Outcome(StrEnum):
    """How an exchange ended, decided once, at the edge."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    """4xx other than 429: its own check, not an error."""
    UPSTREAM_ERROR = "upstream_error"
    """5xx, 429, or no connection to the upstream."""
    TIMEOUT = "timeout"
    RESET = "reset"
    """The upstream closed or broke the connection before a complete head."""
    TRUNCATED = "truncated"
    """The upstream failed after the first byte of its answer."""
    CANCELLED = "cancelled"
    """The client went away (499). Neutral for errors."""


ERROR_OUTCOMES = frozenset(
    {Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT, Outcome.RESET, Outcome.TRUNCATED}
)
"""What the judge counts as an error, on the first attempt, charged to the assigned arm."""


def outcome_of_status(status: int) -> Outcome:
    """Classify a complete answer by its status."""
    if status >= 500 or status == 429:
        return Outcome.UPSTREAM_ERROR
    if status >= 400:
        return Outcome.CLIENT_ERROR
    return Outcome.OK


MAX_EMBEDDING_LENGTH = 16_384
"""Longest embedding stored. The widest in use has 4,096 numbers."""

MAX_TEXT_CHARS = 65_536
"""Longest text feature stored; the gateway keeps no more of a body than this by default."""


class Row(msgspec.Struct, kw_only=True, gc=False):
    """One answered request, as stored. Units are in the names; times are UTC.

    `record_id` is ours and unique (worker, segment, sequence); `request_id` is the client's or ours
    and may repeat. `share_bp` is what was in force away from stable: the canary's share or, during
    bake, the holdback's; 0 after the lease has ended.
    """

    record_id: str
    request_id: str
    trace_id: str = ""
    """Of the request's W3C trace, 32 hexadecimal digits; empty where it had none."""
    route: str
    model: str
    generation: int
    share_bp: int
    bucket: int
    arm: str
    served_arm: str
    version: str
    endpoint: str = ""
    """Asked last: it answered, or failed to. As in the plan; empty where none was, or of rows from
    before this was kept."""
    kind: str
    started_at: datetime
    ended_at: datetime
    status: int
    outcome: str
    first_attempt_outcome: str
    first_attempt_endpoint: str = ""
    """The one that `first_attempt_outcome` is of."""
    attempts: int
    latency_us: int
    first_byte_us: int
    first_event_us: int = 0
    """From the request to the first server-sent event of its answer; 0 where there was none."""
    events: int
    max_event_gap_us: int
    request_bytes: int
    response_bytes: int
    # Features. Absent is None (or empty): a row without features is still a row.
    query_id: str | None = None
    query_text: str | None = None
    embedding: list[float] = []
    response_time_ms: float | None = None
    relevance_score: float | None = None
    user_id: str | None = None
    session_id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model_reported: str | None = None
    finish_reason: str | None = None
    refused: bool | None = None
    """The model declined: it said so itself, or its content filter did. None: cannot be told."""
    answer_chars: int | None = None
    """Characters of the text that the model answered with, all events of a stream together."""
    retrieved_ids: list[str] = []
    retrieved_scores: list[float] = []
    retrieved_count: int | None = None
    """Documents that the answer says were retrieved, also those past what `retrieved_ids` keeps.
    0: the retrieval was empty. None: nothing was said of one."""
    features_missing: str = ""
    """Why features are missing: not_sampled, opted_out, truncated, undecodable, not_json,
    unknown_shape, or `unusable NAME` for a single one of the wrong kind; several with ", " between.
    Else empty."""


ROW_COLUMNS: tuple[str, ...] = Row.__struct_fields__
"""Column names in the order of the table."""


_MAX_FLOAT_32 = 3.4e38


def _fits_32_bits(numbers: list[float]) -> bool:
    """Whether each is finite as a 32-bit float.

    The length of the vector is at least as long as any of its numbers, and takes a twentieth of the
    time; only one beyond the bound, or not a number, has them looked at one by one.
    """
    return math.hypot(*numbers) < _MAX_FLOAT_32 or all(abs(x) < _MAX_FLOAT_32 for x in numbers)


def unusable(row: Row) -> dict[str, str]:
    """By feature: what about its value fits no column, and what was expected.

    Bodies say these, so any model may say anything: without them a row is still a row.
    """
    found: dict[str, str] = {}
    score = row.relevance_score
    if score is not None and not 0.0 <= score <= 1.0:
        found["relevance_score"] = f"relevance_score {score} is outside 0..1"
    if row.response_time_ms is not None and not 0.0 <= row.response_time_ms < 1e9:
        found["response_time_ms"] = f"response_time_ms {row.response_time_ms} is outside 0..1e9"
    if len(row.embedding) > MAX_EMBEDDING_LENGTH:
        found["embedding"] = (
            f"embedding has {len(row.embedding)} numbers, at most {MAX_EMBEDDING_LENGTH}"
        )
    elif row.embedding and not _fits_32_bits(row.embedding):
        found["embedding"] = "embedding holds a number that is not finite in 32 bits"
    if row.query_text is not None and len(row.query_text) > MAX_TEXT_CHARS:
        found["query_text"] = (
            f"query_text has {len(row.query_text)} characters, at most {MAX_TEXT_CHARS}"
        )
    return found


def without(row: Row, features: Iterable[str]) -> Row:
    """The row without these features, each of them named in `features_missing`.

    A response time is then what was measured, as where nothing was said of one.
    """
    told = [row.features_missing] if row.features_missing else []
    told += [f"unusable {name}" for name in features]
    absent: dict[str, Any] = {"embedding": [], "response_time_ms": row.latency_us / 1000}
    values = {name: absent.get(name) for name in features}
    return msgspec.structs.replace(row, **values, features_missing=", ".join(told))


def problems(row: Row) -> list[str]:
    """Everything about `row` that does not fit the schema, each named with what was expected."""
    found: list[str] = []
    if not 0 <= row.bucket < FULL_SHARE_BP:
        found.append(f"bucket {row.bucket} is outside 0..{FULL_SHARE_BP - 1}")
    if row.ended_at < row.started_at:
        found.append(f"ended_at {row.ended_at} is before started_at {row.started_at}")
    found += unusable(row).values()
    if row.retrieved_count is not None and row.retrieved_count < len(row.retrieved_ids):
        found.append(
            f"retrieved_count {row.retrieved_count} is below the {len(row.retrieved_ids)} ids"
        )
    if len(row.retrieved_ids) != len(row.retrieved_scores) and row.retrieved_scores:
        found.append(
            f"retrieved has {len(row.retrieved_ids)} ids and {len(row.retrieved_scores)} scores"
        )
    return found
