"""How a model did over time: per hour in a table that outlives the rows, per day when read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final

import msgspec

from mlops.contracts.evidence import BIN_RATIO, LATENCY_FIRST_EDGE_US
from mlops.contracts.record import ERROR_OUTCOMES, Kind, Outcome
from mlops.feature_store.aggregates import bin_sql
from mlops.feature_store.tables import PERFORMANCE, ROWS

_SERVED = f"kind = '{Kind.SERVED}'"
_REQUEST = f"{_SERVED} AND outcome != '{Outcome.CANCELLED}'"
_ERRORS = ", ".join(f"'{outcome}'" for outcome in sorted(ERROR_OUTCOMES))
_SUMMED = ("requests", "errors", "cancelled", "scored", "score_total")

_PER_HOUR = f"""SELECT model, version, arm, toStartOfHour(toDateTime(ended_at, 'UTC')) AS hour,
  countIf({_REQUEST}) AS requests,
  countIf({_REQUEST} AND first_attempt_outcome IN ({_ERRORS})) AS errors,
  countIf({_SERVED} AND outcome = '{Outcome.CANCELLED}') AS cancelled,
  countIf({_REQUEST} AND isNotNull(relevance_score)) AS scored,
  sumIf(ifNull(relevance_score, 0), {_REQUEST}) AS score_total,
  sumMapIf(map({bin_sql("latency_us")}, toUInt64(1)), {_REQUEST}) AS latency_bins
FROM {ROWS}
WHERE {{condition}}
GROUP BY model, version, arm, hour"""

REFRESH: Final = (
    f"INSERT INTO {PERFORMANCE} (model, version, arm, hour, {', '.join(_SUMMED)}, latency_bins) "
    + _PER_HOUR.replace(
        "{condition}",
        "ended_at >= toDateTime({since:Int64}, 'UTC') "
        "AND ended_at < toDateTime({until:Int64}, 'UTC')",
    )
)
"""Write the hours of a span again; the newest writing of an hour is the one that counts."""

_FROM_ROWS = _PER_HOUR.replace(
    "{condition}", "model = {model:String} AND ended_at >= toDateTime({since:Int64}, 'UTC')"
)

HISTORY: Final = f"""SELECT toDate(hour) AS day, version, arm,
  {", ".join(f"sum({name})" for name in _SUMMED)}, sumMap(latency_bins)
FROM (
  {_FROM_ROWS}
  UNION ALL
  SELECT model, version, arm, hour, {", ".join(_SUMMED)}, latency_bins
  FROM {PERFORMANCE} FINAL
  WHERE model = {{model:String}} AND hour >= toDateTime({{since:Int64}}, 'UTC')
    AND toDate(hour) NOT IN (
      SELECT DISTINCT toDate(ended_at) FROM {ROWS}
      WHERE model = {{model:String}} AND ended_at >= toDateTime({{since:Int64}}, 'UTC'))
)
GROUP BY day, version, arm
ORDER BY day, version, arm"""
"""From the rows where they still are, else from the table: rows expire by whole days."""


class ModelPerformance(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a model on one day (UTC), in one arm.

    Latencies are upper edges of bins two per cent wide; None where nothing was counted.
    """

    day: date
    version: str
    arm: str
    requests: int
    """Served and not cancelled."""
    errors: int
    """Failed on the first attempt."""
    cancelled: int
    error_rate: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    mean_relevance_score: float | None


def history(rows: Iterable[Sequence[Any]]) -> list[ModelPerformance]:
    """From the answer to `HISTORY`."""
    return [_performance(row) for row in rows]


def _performance(row: Sequence[Any]) -> ModelPerformance:
    day, version, arm, requests, errors, cancelled, scored, score_total, bins = row
    return ModelPerformance(
        day=day,
        version=version,
        arm=arm,
        requests=requests,
        errors=errors,
        cancelled=cancelled,
        error_rate=errors / requests if requests else None,
        latency_p50_ms=_quantile_ms(bins, 0.5),
        latency_p95_ms=_quantile_ms(bins, 0.95),
        latency_p99_ms=_quantile_ms(bins, 0.99),
        mean_relevance_score=score_total / scored if scored else None,
    )


def _quantile_ms(bins: Mapping[int, int], share: float) -> float | None:
    """The upper edge of the bin in which the quantile lies, in milliseconds."""
    needed = share * sum(bins.values())
    seen = 0
    for index in sorted(bins):
        seen += bins[index]
        if seen >= needed:
            return float(LATENCY_FIRST_EDGE_US * BIN_RATIO ** (index + 1) / 1000)
    return None
