"""What the agent reads of the log: statements, and the pure part that makes `Evidence` of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mlops.contracts.evidence import SCORE_BINS, AnsweredCounts, ScoreCounts, SecondCounts
from mlops.contracts.record import Kind
from mlops.feature_store.aggregates import BINS, COUNTS
from mlops.feature_store.tables import EVALUATIONS, ROWS, SECOND_BATCHES, TALLIES

WORKER_GONE_AFTER_S = 60
"""A worker whose last tally is this much older than the newest one holds nothing up any more.
Longer than a recorder needs to come back; what it brings later is stored but not judged."""

SCORE_LOOKBACK_S = 3600
"""A score is joined to a row that ended at most this long before it arrived."""

SCORE_AHEAD_S = 60
"""A score may arrive this long before its row has ended (a stream that is judged while it runs)."""

MICRO = 1_000_000


class WorkerTally(NamedTuple):
    """The last a worker was heard of."""

    worker: str
    second: int
    final: bool


_LAST_HEARD = f"""SELECT worker, toUnixTimestamp(max(second)), max(final){{more}}
FROM {TALLIES}
WHERE second >= (SELECT max(second) FROM {TALLIES}) - {WORKER_GONE_AFTER_S}
GROUP BY worker"""

WATERMARK = _LAST_HEARD.format(more="")
"""What the workers were last heard to say."""

WATERMARK_AND_SCORES = _LAST_HEARD.format(
    more=f""",
  (SELECT count() FROM {EVALUATIONS}
    WHERE received_at >= toDateTime64({{since:Int64}} - {SCORE_AHEAD_S}, 6, 'UTC')) AS scores"""
)
"""And whether there is a score to look for: joining scores to rows is the dearest part of a look,
and most have none."""

_BETWEEN = "BETWEEN toDateTime({since:Int64}, 'UTC') AND toDateTime({closed:Int64}, 'UTC')"

SECOND_COUNTS = f"""SELECT toUnixTimestamp(second) AS at, generation, arm,
  {", ".join(f"sum(b.{name})" for name in COUNTS)},
  {", ".join(f"sumMap(b.{name})" for name in BINS)}
FROM {SECOND_BATCHES} AS b FINAL
PREWHERE route = {{route:String}} AND second {_BETWEEN}
GROUP BY second, generation, arm
ORDER BY second, generation, arm"""
"""PREWHERE, which the engine does not choose itself beside FINAL: then the histograms of the other
seconds in the granule are not read. Both columns are of the key, so FINAL chooses the same rows."""

ANSWERED_COUNTS = f"""SELECT toUnixTimestamp(second) AS at, generation, arm,
  sum(count), sum(arraySum(mapValues(lost))), sum(open['older'])
FROM {TALLIES} FINAL
ARRAY JOIN routes AS route, arms AS arm, generations AS generation, answered AS count,
  dropped AS lost, in_flight AS open
WHERE second {_BETWEEN} AND route = {{route:String}}
GROUP BY second, generation, arm
ORDER BY second, generation, arm"""

_STRETCH = (
    "{since:Int64} + intDiv(toUnixTimestamp(second) - {since:Int64}, {every:Int64}) * {every:Int64}"
)

TRAFFIC_COUNTS = f"""SELECT {_STRETCH} AS at, arm,
  sum(b.rows), sum(b.requests), sum(b.errors), sumMap(b.latency_bins)
FROM {SECOND_BATCHES} AS b FINAL
PREWHERE route = {{route:String}} AND second {_BETWEEN}
GROUP BY at, arm
ORDER BY at, arm"""
"""For a picture of hours or days: longer stretches, and only what is drawn."""

TRAFFIC_ANSWERED = f"""SELECT {_STRETCH} AS at, 0 AS generation, arm,
  sum(count), sum(arraySum(mapValues(lost))), sum(open['older'])
FROM {TALLIES} FINAL
ARRAY JOIN routes AS route, arms AS arm, answered AS count, dropped AS lost, in_flight AS open
WHERE second {_BETWEEN} AND route = {{route:String}}
GROUP BY at, arm
ORDER BY at, arm"""

_CLOSED = "toDateTime64({closed:Int64} + 1, 6, 'UTC')"
_SINCE = "toDateTime64({since:Int64}, 6, 'UTC')"
_FIRST_SCORE = f"toDateTime64({{since:Int64}} - {SCORE_AHEAD_S}, 6, 'UTC')"
_FIRST_ROW = f"toDateTime64({{since:Int64}} - {SCORE_AHEAD_S + SCORE_LOOKBACK_S}, 6, 'UTC')"
_JUDGED = f"route = {{route:String}} AND kind = '{Kind.SERVED}'"

_SCORED_IDS = f"""SELECT request_id FROM {EVALUATIONS}
      WHERE received_at >= {_SINCE} AND received_at < {_CLOSED}
      UNION ALL
      SELECT request_id FROM {ROWS}
      WHERE {_JUDGED} AND ended_at >= {_SINCE} AND ended_at < {_CLOSED}
        AND request_id IN (SELECT request_id FROM {EVALUATIONS}
          WHERE received_at >= {_FIRST_SCORE} AND received_at < {_SINCE})"""
"""Requests that can have a score in the span: scored in it, or scored just before and ended in it.
Few enough for the index on request ids to leave nearly all of the hour unread."""

SCORE_COUNTS = f"""SELECT at, generation, arm, name, count(), sum(micro), sum(micro * micro),
  sumMap(map(toUInt16(least({SCORE_BINS - 1}, floor(score * {SCORE_BINS}))), toUInt64(1)))
FROM (
  SELECT any(e.name) AS name, any(e.micro) AS micro, any(e.score) AS score,
    argMin((r.generation, toString(r.arm), toUnixTimestamp(toDateTime(r.ended_at, 'UTC'))),
      (r.ended_at, r.record_id)) AS row,
    row.1 AS generation, row.2 AS arm,
    greatest(any(e.received), row.3) AS at
  FROM (
    SELECT request_id, batch, position, toString(name) AS name, score, received_at,
      toUnixTimestamp(toDateTime(received_at, 'UTC')) AS received,
      toInt64(round(score * {MICRO})) AS micro
    FROM {EVALUATIONS} FINAL WHERE received_at >= {_FIRST_SCORE} AND received_at < {_CLOSED}
  ) AS e
  INNER JOIN (
    SELECT request_id, record_id, generation, arm, ended_at FROM {ROWS}
    WHERE {_JUDGED} AND ended_at >= {_FIRST_ROW} AND ended_at < {_CLOSED}
      AND request_id IN ({_SCORED_IDS})
  ) AS r ON e.request_id = r.request_id
  WHERE r.ended_at >= e.received_at - toIntervalSecond({SCORE_LOOKBACK_S})
    AND r.ended_at <= e.received_at + toIntervalSecond({SCORE_AHEAD_S})
  GROUP BY e.batch, e.position
)
WHERE at BETWEEN {{since:Int64}} AND {{closed:Int64}}
GROUP BY at, generation, arm, name
ORDER BY at, generation, arm, name"""


def closed_through(workers: Iterable[WorkerTally]) -> int | None:
    """The last second that no worker will add to; None before the first tally.

    While workers live it is the oldest of their last seconds. When every worker has said its final
    tally nothing will follow, so it is the newest second of all.
    """
    known = list(workers)
    if not known:
        return None
    newest = max(worker.second for worker in known)
    live = [
        worker.second
        for worker in known
        if not worker.final and newest - worker.second <= WORKER_GONE_AFTER_S
    ]
    return min(live) if live else newest


def second_counts(rows: Iterable[Sequence[Any]]) -> tuple[SecondCounts, ...]:
    """From the answer to `SECOND_COUNTS`."""
    return tuple(
        SecondCounts(
            second=row[0],
            generation=row[1],
            arm=row[2],
            **dict(zip((*COUNTS, *BINS), row[3:], strict=True)),
        )
        for row in rows
    )


def traffic_counts(rows: Iterable[Sequence[Any]]) -> tuple[SecondCounts, ...]:
    """From the answer to `TRAFFIC_COUNTS`; generation 0 stands for all of them."""
    return tuple(
        SecondCounts(
            second=at,
            generation=0,
            arm=arm,
            rows=count,
            requests=requests,
            errors=errors,
            latency_bins=bins,
        )
        for at, arm, count, requests, errors, bins in rows
    )


def answered_counts(rows: Iterable[Sequence[Any]]) -> tuple[AnsweredCounts, ...]:
    """From the answer to `ANSWERED_COUNTS`."""
    return tuple(
        AnsweredCounts(
            second=row[0],
            generation=row[1],
            arm=row[2],
            answered=row[3],
            dropped=row[4],
            long_open=row[5],
        )
        for row in rows
    )


def score_counts(rows: Iterable[Sequence[Any]]) -> tuple[ScoreCounts, ...]:
    """From the answer to `SCORE_COUNTS`: whole millionths, so that sums are exact in any order."""
    return tuple(
        ScoreCounts(
            second=row[0],
            generation=row[1],
            arm=row[2],
            name=row[3],
            count=row[4],
            total=row[5] / MICRO,
            total_squares=row[6] / (MICRO * MICRO),
            bins=row[7],
        )
        for row in rows
    )
