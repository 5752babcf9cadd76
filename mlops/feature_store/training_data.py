"""Training data: which rows, as one statement, and what came back. Nothing from the future."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from mlops.contracts.record import Kind, Outcome
from mlops.feature_store.batch import microseconds
from mlops.feature_store.evidence import SCORE_AHEAD_S, SCORE_LOOKBACK_S
from mlops.feature_store.tables import EVALUATIONS, ROWS

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

MAX_LIMIT = 10_000_000
"""Rows of one read: with embeddings of 384 numbers about 16 GB, more than one process should."""

COLUMNS = (
    "query_id",
    "request_id",
    "route",
    "model",
    "version",
    "arm",
    "ended_at",
    "query_text",
    "embedding",
    "response_time_ms",
    "relevance_score",
    "score",
    "user_id",
    "session_id",
    "retrieved_ids",
    "retrieved_scores",
)
"""Of the training data. `score` is the evaluation asked for, else the `relevance_score`."""


_BELONGS = (
    "e.is_scored = 1 "
    f"AND r.ended_at >= e.arrived - toIntervalSecond({SCORE_LOOKBACK_S}) "
    f"AND r.ended_at <= e.arrived + toIntervalSecond({SCORE_AHEAD_S})"
)
"""Whether a late score is of a row."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which answered queries to train on. Times are UTC; what is None does not restrict.

    `as_of` is the point in time the data must look like: rows that ended and scores that arrived
    later are not there. `evaluation` names the late score that becomes `score`; with
    `only_evaluated` rows that have none are left out. `seed` draws a
    random sample that is the same whenever it is drawn from the same rows; without it the newest
    rows come, oldest of them first.
    """

    limit: int = 10_000
    since: datetime | None = None
    until: datetime | None = None
    as_of: datetime | None = None
    route: str | None = None
    model: str | None = None
    version: str | None = None
    minimum_score: float | None = None
    evaluation: str | None = None
    only_evaluated: bool = False
    seed: int | None = None
    with_embeddings: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_LIMIT:
            raise ValueError(f"limit {self.limit} is outside 1..{MAX_LIMIT:,}")
        if self.minimum_score is not None and not 0.0 <= self.minimum_score <= 1.0:
            raise ValueError(f"minimum_score {self.minimum_score} is outside 0..1")
        if self.only_evaluated and self.evaluation is None:
            raise ValueError("only_evaluated needs the name of an evaluation")
        for name in ("since", "until", "as_of"):
            moment: datetime | None = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{name} {moment} has no time zone; expected one, such as UTC")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError(f"since {self.since} is not before until {self.until}")

    def statement(self) -> tuple[str, dict[str, object]]:
        """One SELECT of `COLUMNS`, and its parameters.

        The rows are found by their narrow columns first, so that embeddings are read of no others.
        """
        conditions, parameters = self._conditions()
        score, joined = self._score(parameters)
        if self.only_evaluated:
            conditions.append(f"({_BELONGS})")
        if self.minimum_score is not None:
            conditions.append(f"{score} >= {{minimum_score:Float64}}")
            parameters["minimum_score"] = self.minimum_score
        parameters["limit"] = self.limit
        if self.seed is None:
            rank, last, order = "(r.ended_at, r.record_id)", "min", "DESC"
            compared = ">="
        else:
            parameters["seed"] = self.seed
            rank, last, order = "sipHash64({seed:Int64}, r.record_id)", "max", "ASC"
            compared = "<="
        source = f"FROM {ROWS} AS r {joined} WHERE {' AND '.join(conditions)}"
        bound = (
            f"(SELECT {last}(at) FROM (SELECT {rank} AS at {source} "
            f"ORDER BY at {order} LIMIT {{limit:UInt64}}))"
        )
        names = [self._column(name, score) for name in COLUMNS]
        text = (
            f"SELECT {', '.join(names)} {source} AND {rank} {compared} {bound} "
            "ORDER BY r.ended_at, r.record_id"
        )
        return text, parameters

    def _column(self, name: str, score: str) -> str:
        if name == "score":
            return f"{score} AS score"
        if name == "embedding" and not self.with_embeddings:
            return "CAST([], 'Array(Float32)') AS embedding"
        return f"r.{name} AS {name}"

    def _conditions(self) -> tuple[list[str], dict[str, object]]:
        conditions = [
            f"r.kind = '{Kind.SERVED}'",
            f"r.outcome = '{Outcome.OK}'",
            "r.query_text IS NOT NULL",
        ]
        parameters: dict[str, object] = {}
        for name in ("route", "model", "version"):
            if getattr(self, name) is not None:
                conditions.append(f"r.{name} = {{{name}:String}}")
                parameters[name] = getattr(self, name)
        for name, compared in (("since", ">="), ("until", "<"), ("as_of", "<=")):
            if (moment := getattr(self, name)) is not None:
                conditions.append(
                    f"r.ended_at {compared} fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')"
                )
                parameters[name] = microseconds(moment)
        return conditions, parameters

    def _score(self, parameters: dict[str, object]) -> tuple[str, str]:
        """The expression of `score`, and what has to be joined for it.

        A late score belongs to a row as in the evidence: one that ended at most an hour before it
        arrived. Of several, the last that had arrived counts.
        """
        if self.evaluation is None:
            return "r.relevance_score", ""
        parameters["evaluation"] = self.evaluation
        known = ""
        if self.as_of is not None:
            known = "AND received_at <= fromUnixTimestamp64Micro({as_of:Int64}, 'UTC')"
        joined = f"""LEFT JOIN (
  SELECT request_id, argMax(score, (received_at, batch, position)) AS late,
    max(received_at) AS arrived, 1 AS is_scored
  FROM {EVALUATIONS} FINAL WHERE name = {{evaluation:String}} {known} GROUP BY request_id
) AS e ON e.request_id = r.request_id"""
        return f"if({_BELONGS}, e.late, r.relevance_score)", joined


class TrainingData:
    """Queries to train on: a length, rows as mappings, and the whole as Arrow or pandas."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Rows in order of their end, oldest first; made a thousand at a time."""
        for batch in self._table.to_batches(max_chunksize=1_000):
            yield from batch.to_pylist()

    def __repr__(self) -> str:
        return f"TrainingData({len(self):,} rows of {len(self.columns)} columns)"

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names, in the order of the selection."""
        return tuple(self._table.column_names)

    def to_arrow(self) -> pa.Table:
        """The data itself, not copied."""
        return self._table

    def to_pandas(self) -> pd.DataFrame:
        """A copy; columns of lists, such as the embedding, become objects."""
        frame: pd.DataFrame = self._table.to_pandas()
        return frame
