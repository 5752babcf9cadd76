"""Rows to what is kept of them per second: the text that a view and every repair share. Pure.

Counts and sums are keyed by batch and depend on nothing but the rows of their batch, so that
writing them again replaces them with equal ones.
"""

from __future__ import annotations

from math import log
from typing import Final, NamedTuple

from mlops.contracts.evidence import (
    BIN_RATIO,
    KEY_GROUPS,
    LAST_BIN,
    LATENCY_FIRST_EDGE_US,
    SCORE_BINS,
)
from mlops.contracts.record import ERROR_OUTCOMES, Kind, Outcome
from mlops.feature_store.tables import BATCH, EMBEDDING_BATCHES, ROWS, SECOND_BATCHES

SCRIPT_CHARS: Final = 200
"""A text is told by the script of its beginning: a question shows it in a word."""


class Aggregate(NamedTuple):
    """One table that holds, for each batch, what its rows come to."""

    table: str
    selection: str
    """A SELECT without WHERE and GROUP BY. Its column `rows` counts every row of a group."""
    keys: str
    """What it is grouped by; with the names of its columns, the table's key."""

    @property
    def view(self) -> str:
        """Name of the materialized view that fills the table."""
        return f"{self.table}_view"

    @property
    def query(self) -> str:
        """Over whatever is inserted: the text of the view."""
        return f"{self.selection}\nGROUP BY {self.keys}"


def bin_sql(column: str, first_edge: int = LATENCY_FIRST_EDGE_US) -> str:
    """`latency_bin` (`count_bin`: edge 1) of `mlops.contracts.evidence`; a test compares them."""
    index = f"floor(log({column} / {first_edge}) / {log(BIN_RATIO)!r})"
    return f"toUInt16(if({column} <= {first_edge}, 0, least({LAST_BIN}, {index})))"


def _quoted_list(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


def _histogram(index: str, condition: str) -> str:
    return f"sumMapIf(map({index}, toUInt64(1)), {condition})"


def _bins(column: str, condition: str) -> str:
    return _histogram(bin_sql(column), condition)


def _count_bins(column: str, condition: str) -> str:
    return _histogram(bin_sql(f"ifNull({column}, 0)", 1), f"{condition} AND isNotNull({column})")


_SERVED = f"kind = '{Kind.SERVED}'"
_REQUEST = f"{_SERVED} AND outcome != '{Outcome.CANCELLED}'"
_CANCELLED = f"{_SERVED} AND outcome = '{Outcome.CANCELLED}'"
_ERROR = f"first_attempt_outcome IN ({_quoted_list([str(o) for o in ERROR_OUTCOMES])})"
_CLIENT_ERROR = f"first_attempt_outcome = '{Outcome.CLIENT_ERROR}'"
_SCORE_BIN = f"toUInt16(least({SCORE_BINS - 1}, floor(ifNull(relevance_score, 0) * {SCORE_BINS})))"
_GROUP = f"toUInt16(bucket % {KEY_GROUPS})"

FIRST_COUNTS: Final[dict[str, str]] = {
    "rows": "count()",
    "requests": f"countIf({_REQUEST})",
    "errors": f"countIf({_REQUEST} AND {_ERROR})",
    "client_errors": f"countIf({_REQUEST} AND {_CLIENT_ERROR})",
    "cancelled": f"countIf({_CANCELLED})",
}
FIRST_BINS: Final[dict[str, str]] = {
    "latency_bins": _bins("latency_us", _REQUEST),
    "first_byte_bins": _bins("first_byte_us", f"{_REQUEST} AND first_byte_us > 0"),
    "cancelled_bins": _bins("latency_us", _CANCELLED),
}
ADDED_COUNTS: Final[dict[str, str]] = {
    "refusals": f"countIf({_REQUEST} AND ifNull(refused, false))",
    "refusal_known": f"countIf({_REQUEST} AND isNotNull(refused))",
    "empty_retrievals": f"countIf({_REQUEST} AND ifNull(retrieved_count, 1) = 0)",
    "retrieval_known": f"countIf({_REQUEST} AND isNotNull(retrieved_count))",
}
ADDED_BINS: Final[dict[str, str]] = {
    "first_event_bins": _bins("first_event_us", f"{_REQUEST} AND first_event_us > 0"),
    "gap_bins": _bins("max_event_gap_us", f"{_REQUEST} AND events > 1"),
    "answer_chars_bins": _count_bins("answer_chars", _REQUEST),
    "completion_token_bins": _count_bins("completion_tokens", _REQUEST),
    "score_bins": _histogram(_SCORE_BIN, f"{_REQUEST} AND isNotNull(relevance_score)"),
}
"""Counts and histograms that came with a later step; expression of each column."""

GROUP_BINS: Final[dict[str, str]] = {
    "request_groups": _histogram(_GROUP, _REQUEST),
    "error_groups": _histogram(_GROUP, f"{_REQUEST} AND {_ERROR}"),
}
"""Histograms that came with the step after that."""

COUNTS: Final = (*FIRST_COUNTS, *ADDED_COUNTS)
BINS: Final = (*FIRST_BINS, *ADDED_BINS, *GROUP_BINS)

_SECOND_KEYS = f"route, generation, arm, second, {BATCH}"
_SECOND = "toDateTime(ended_at, 'UTC') AS second"


def _seconds(expressions: dict[str, str]) -> Aggregate:
    columns = ",\n  ".join(f"{text} AS {name}" for name, text in expressions.items())
    selection = f"SELECT\n  route, generation, arm, {_SECOND}, {BATCH},\n  {columns}\nFROM {ROWS}"
    return Aggregate(SECOND_BATCHES, selection, _SECOND_KEYS)


FIRST_SECOND_AGGREGATE: Final = _seconds(FIRST_COUNTS | FIRST_BINS)
"""As the first step makes the view, before the rows have the columns of later ones."""

ADDED_SECOND_AGGREGATE: Final = _seconds(FIRST_COUNTS | FIRST_BINS | ADDED_COUNTS | ADDED_BINS)
"""As the sixth step makes it."""

SECOND_AGGREGATE: Final = _seconds(
    FIRST_COUNTS | FIRST_BINS | ADDED_COUNTS | ADDED_BINS | GROUP_BINS
)

_TEXT = "ifNull(query_text, '')"
_START = f"substringUTF8({_TEXT}, 1, {SCRIPT_CHARS})"
_SCRIPTS: Final = {
    "east_asian": r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]",
    "cyrillic": r"\p{Cyrillic}",
    "arabic_hebrew": r"[\p{Arabic}\p{Hebrew}]",
    "south_asian": r"[\p{Devanagari}\p{Bengali}\p{Tamil}\p{Thai}]",
    "latin": r"[[:alpha:]]",
}
"""The first that fits, else `other`. A name in Latin letters inside a Chinese question does not
make it a Latin one, so Latin comes last."""
_SCRIPT = "multiIf({}, 'other')".format(
    ", ".join(
        f"match({_START}, '{pattern}'), '{name}'".replace("\\", r"\\")
        for name, pattern in _SCRIPTS.items()
    )
)
_HAS_TEXT = f"{_SERVED} AND isNotNull(query_text)"
_HAS_PROMPT = f"{_SERVED} AND isNotNull(prompt_tokens)"
_CHARS = f"toUInt64(lengthUTF8({_TEXT}))"
_TOKENS = "ifNull(prompt_tokens, 0)"

EMBEDDING_TYPES: Final[dict[str, str]] = {
    "rows": "UInt64",
    "count": "UInt64",
    "sum": "Array(Float32) CODEC(ZSTD(1))",
    "squares": "Float64",
    "texts": "UInt64",
    "text_chars_total": "UInt64",
    "text_chars_squares": "Float64",
    "text_chars_bins": "Map(UInt16, UInt64)",
    "prompts": "UInt64",
    "prompt_tokens_total": "UInt64",
    "prompt_tokens_squares": "Float64",
    "prompt_token_bins": "Map(UInt16, UInt64)",
    "scripts": "Map(LowCardinality(String), UInt64)",
}
"""Columns of `embedding_sum_batches` beside its key. Sums are kept in 32 bits: their error is far
below that of the mean they are for, and they are nearly all of the table."""


def added_by(column_type: str) -> str:
    """The function that adds columns of this type over batches."""
    if column_type.startswith("Map("):
        return "sumMap"
    return "sumForEach" if column_type.startswith("Array(") else "sum"


EMBEDDING_AGGREGATE: Final = Aggregate(
    EMBEDDING_BATCHES,
    f"""SELECT
  route, generation, arm, {_SECOND}, toUInt32(length(embedding)) AS dims, {BATCH},
  count() AS rows,
  countIf({_SERVED}) AS count,
  CAST(sumForEachIf(embedding, {_SERVED}), 'Array(Float32)') AS sum,
  sumIf(L2SquaredNorm(embedding), {_SERVED}) AS squares,
  countIf({_HAS_TEXT}) AS texts,
  sumIf({_CHARS}, {_HAS_TEXT}) AS text_chars_total,
  sumIf(pow({_CHARS}, 2), {_HAS_TEXT}) AS text_chars_squares,
  {_histogram(bin_sql(_CHARS, 1), _HAS_TEXT)} AS text_chars_bins,
  countIf({_HAS_PROMPT}) AS prompts,
  sumIf({_TOKENS}, {_HAS_PROMPT}) AS prompt_tokens_total,
  sumIf(pow({_TOKENS}, 2), {_HAS_PROMPT}) AS prompt_tokens_squares,
  {_histogram(bin_sql(_TOKENS, 1), _HAS_PROMPT)} AS prompt_token_bins,
  {_histogram(f"CAST({_SCRIPT}, 'LowCardinality(String)')", _HAS_TEXT)} AS scripts
FROM {ROWS}""",
    f"route, generation, arm, second, dims, {BATCH}",
)
"""Sums of the queries' embeddings and what else tells that queries have changed."""

AGGREGATES: Final = (SECOND_AGGREGATE, EMBEDDING_AGGREGATE)
"""What every batch must have been added to."""
