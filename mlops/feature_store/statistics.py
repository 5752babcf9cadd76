"""How the values of each feature lie, as one statement and its answer. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from mlops.contracts.record import Kind
from mlops.feature_store.tables import ROWS

_VALUES: Final = {
    "query_text_length": "if(isNull(query_text), NULL, toFloat64(lengthUTF8(query_text)))",
    "embedding_length": "if(empty(embedding), NULL, toFloat64(length(embedding)))",
    "response_time_ms": "response_time_ms",
    "relevance_score": "relevance_score",
    "prompt_tokens": "toFloat64(prompt_tokens)",
    "completion_tokens": "toFloat64(completion_tokens)",
    "retrieved_count": (
        "toFloat64(coalesce(retrieved_count, nullIf(toUInt32(length(retrieved_ids)), 0)))"
    ),
}
"""Name of a statistic, and its value in a row; NULL where the row does not have it."""

_SHARES: Final = "0.05, 0.5, 0.95"


class FeatureStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Of one feature over the rows read. None where no row has it."""

    rows: int
    present: int
    mean: float | None
    minimum: float | None
    p05: float | None
    p50: float | None
    p95: float | None
    maximum: float | None


def statistics_statement(route: str | None, since: int) -> tuple[str, dict[str, object]]:
    """Over served rows that ended at second `since` or later."""
    columns = ", ".join(
        f"tuple(count(), count({value}), avg({value}), min({value}), max({value}), "
        f"quantilesTDigest({_SHARES})(ifNull({value}, 0)) "
        f"FILTER (WHERE isNotNull({value})))"
        for value in _VALUES.values()
    )
    parameters: dict[str, object] = {"since": since}
    condition = f"kind = '{Kind.SERVED}' AND ended_at >= toDateTime({{since:Int64}}, 'UTC')"
    if route is not None:
        condition += " AND route = {route:String}"
        parameters["route"] = route
    return f"SELECT {columns} FROM {ROWS} WHERE {condition}", parameters


def statistics_of(rows: Iterable[Sequence[Any]]) -> dict[str, FeatureStatistics]:
    """From the one row that the statement answers."""
    (row,) = rows
    return {name: _statistics(*values) for name, values in zip(_VALUES, row, strict=True)}


def _statistics(
    rows: int,
    present: int,
    mean: float | None,
    minimum: float | None,
    maximum: float | None,
    quantiles: Sequence[float],
) -> FeatureStatistics:
    p05, p50, p95 = quantiles if present else (None, None, None)
    return FeatureStatistics(
        rows=rows,
        present=present,
        mean=mean if present else None,
        minimum=minimum if present else None,
        p05=p05,
        p50=p50,
        p95=p95,
        maximum=maximum if present else None,
    )
