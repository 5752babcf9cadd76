"""An hour of a route in figures, as one statement and its answer. Pure.

Only stable's answers: a canary is the agent's to judge, and would hide behind the mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from mlops.contracts.plan import Arm
from mlops.contracts.record import ERROR_OUTCOMES, Kind, Outcome
from mlops.feature_store.tables import DEAD_LETTERS, EVALUATIONS, ROWS

HOUR_S: Final = 3600
_REQUEST = f"outcome != '{Outcome.CANCELLED}'"
_SCORED = f"{_REQUEST} AND isNotNull(relevance_score)"
_SCORE = "ifNull(relevance_score, 0)"
_ERRORS = ", ".join(f"'{outcome}'" for outcome in sorted(ERROR_OUTCOMES))
_SPAN = (
    "{column} >= toDateTime({{since:Int64}}, 'UTC') "
    "AND {column} < toDateTime({{until:Int64}}, 'UTC')"
)
_HOUR = "toUnixTimestamp(toStartOfHour(toDateTime({column}, 'UTC')))"

HOURS: Final = f"""SELECT toString(route), {_HOUR.format(column="ended_at")} AS hour,
  countIf({_REQUEST}) AS requests,
  countIf({_REQUEST} AND first_attempt_outcome IN ({_ERRORS})) AS errors,
  quantileTDigestIf(0.5)(latency_us, {_REQUEST}) / 1000 AS p50,
  quantileTDigestIf(0.95)(latency_us, {_REQUEST}) / 1000 AS p95,
  countIf({_SCORED}) AS scored,
  sumIf({_SCORE}, {_SCORED}) AS score_total,
  sumIf(pow({_SCORE}, 2), {_SCORED}) AS score_squares,
  countIf({_REQUEST} AND isNull(query_text)) AS without_text,
  countIf({_REQUEST} AND empty(embedding)) AS without_embedding
FROM {ROWS}
WHERE kind = '{Kind.SERVED}' AND arm = '{Arm.STABLE}' AND {_SPAN.format(column="ended_at")}
GROUP BY route, hour
HAVING requests > 0
ORDER BY route, hour"""

LATE_SCORES: Final = f"""SELECT toString(name), {_HOUR.format(column="received_at")} AS hour,
  count(), sum(score), sum(pow(score, 2))
FROM {EVALUATIONS} FINAL
WHERE {_SPAN.format(column="received_at")}
GROUP BY name, hour
ORDER BY name, hour"""
"""By the hour of their arrival; of all routes, because a score names a request and no route."""

DEAD_ROWS: Final = f"""SELECT count() FROM {DEAD_LETTERS} FINAL
WHERE {_SPAN.format(column="at")}"""

VERSIONS: Final = f"""SELECT generation, argMax(toString(version), c), sum(c) FROM (
  SELECT generation, version, count() AS c FROM {ROWS}
  WHERE kind = '{Kind.SERVED}' AND arm = '{Arm.STABLE}' AND route = {{route:String}}
    AND {_SPAN.format(column="ended_at")}
  GROUP BY generation, version)
GROUP BY generation ORDER BY generation"""
"""Which version was stable in each generation: embeddings of two versions are not compared."""


class HourFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One route in one hour. Latencies are in milliseconds."""

    route: str
    hour: int
    """Its first second (Unix time)."""
    requests: int
    """Not cancelled."""
    errors: int
    """Of these, by their first attempt."""
    latency_p50_ms: float
    latency_p95_ms: float
    scored: int
    score_total: float
    score_squares: float
    without_text: int
    """Of `requests`."""
    without_embedding: int
    """Of `requests`."""


class ScoreFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Late scores of one name that arrived in one hour."""

    name: str
    hour: int
    count: int
    total: float
    squares: float


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What the looks at an hour start from: its figures and those of the hours before."""

    hour: int
    since: int
    """First second of the baseline."""
    hours: list[HourFigures]
    scores: list[ScoreFigures]
    sentence: str


def hours_of(rows: Iterable[Sequence[Any]]) -> list[HourFigures]:
    """From the answer to `HOURS`."""
    names = HourFigures.__struct_fields__
    return [HourFigures(**dict(zip(names, row, strict=True))) for row in rows]


def scores_of(rows: Iterable[Sequence[Any]]) -> list[ScoreFigures]:
    """From the answer to `LATE_SCORES`."""
    names = ScoreFigures.__struct_fields__
    return [ScoreFigures(**dict(zip(names, row, strict=True))) for row in rows]


def collected(
    hour: int, since: int, hours: list[HourFigures], scores: list[ScoreFigures]
) -> Collected:
    """Both answers together."""
    now = [one for one in hours if one.hour == hour]
    requests, before = sum(one.requests for one in now), len({one.hour for one in hours} - {hour})
    return Collected(
        hour=hour,
        since=since,
        hours=hours,
        scores=scores,
        sentence=f"{requests:,} requests on {len(now)} routes; {before} hours with traffic before",
    )
