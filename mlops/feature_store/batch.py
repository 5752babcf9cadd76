"""One batch of rows on its way into ClickHouse: its columns, its reach, and the check behind it.

Pure: builds column lists and statements, sends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import astuple

from mlops.contracts.record import ROW_COLUMNS, Row
from mlops.feature_store.aggregates import AGGREGATES
from mlops.feature_store.errors import Refused
from mlops.feature_store.tables import BATCH, ROWS

MAX_BATCH_ROWS = 65_536
"""Largest batch: it stays one block, so that one token covers it whole."""

MAX_TOKEN_CHARS = 256
"""Longest token; it is stored with every row of its batch."""

MAX_BATCH_DAYS = 50
"""Days that one batch may lie in: each is a part of its own, and the engine takes at most 100."""

_DAY_US = 86_400_000_000
_END_OF_SECONDS_US = 2**32 * 1_000_000
"""Seconds are kept in 32 bits, until the year 2106."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_STARTED = ROW_COLUMNS.index("started_at")
_ENDED = ROW_COLUMNS.index("ended_at")


def microseconds(moment: datetime) -> int:
    """Whole microseconds since the epoch, exactly.

    Raises:
        Refused: the moment has no time zone, so it could mean anything.
    """
    if moment.tzinfo is None:
        raise Refused(f"{moment} has no time zone, expected UTC")
    return (moment - _EPOCH) // _MICROSECOND


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that were given one token, in the order they were given."""

    token: str
    columns: list[Sequence[Any]]
    """In the order of `ROW_COLUMNS`, times as microseconds."""
    rows: int
    routes: list[str]
    first_us: int
    last_us: int

    @property
    def reach(self) -> dict[str, object]:
        """Parameters that limit a statement to where this batch's rows can lie."""
        return {
            "batch": self.token,
            "routes": self.routes,
            "first": self.first_us,
            "last": self.last_us,
        }

    def without(self, stored: frozenset[str]) -> Batch:
        """The rows whose `record_id` is not in `stored`."""
        keep = [i for i, record_id in enumerate(self.columns[0]) if record_id not in stored]
        columns: list[Sequence[Any]] = [[column[i] for i in keep] for column in self.columns]
        return Batch(self.token, columns, len(keep), self.routes, self.first_us, self.last_us)


def batch_of(rows: Sequence[Row], token: str) -> Batch:
    """Turn rows into columns.

    Raises:
        Refused: no rows, too many, a token that is empty or too long, or times that do not fit.
    """
    check_token(token)
    if not 0 < len(rows) <= MAX_BATCH_ROWS:
        raise Refused(f"the batch has {len(rows):,} rows, expected 1 to {MAX_BATCH_ROWS:,}")
    columns: list[Sequence[Any]] = list(zip(*map(astuple, rows), strict=True))
    columns[_STARTED] = [microseconds(moment) for moment in columns[_STARTED]]
    ended = [microseconds(moment) for moment in columns[_ENDED]]
    columns[_ENDED] = ended
    _check_times(ended)
    routes = sorted({row.route for row in rows})
    return Batch(token, columns, len(rows), routes, min(ended), max(ended))


def _check_times(ended: Sequence[int]) -> None:
    for moment_us in (min(ended), max(ended)):
        if not 0 <= moment_us < _END_OF_SECONDS_US:
            raise Refused(f"ended_at is {moment_us} us since 1970, expected the years 1970 to 2105")
    days = len({moment_us // _DAY_US for moment_us in ended})
    if days > MAX_BATCH_DAYS:
        raise Refused(f"the batch lies in {days} days, at most {MAX_BATCH_DAYS}")


def check_token(token: str) -> None:
    """Refuse a token that could not tell batches apart."""
    if not 0 < len(token) <= MAX_TOKEN_CHARS:
        raise Refused(
            f"token {token[:40]!r} has {len(token)} characters, expected 1 to {MAX_TOKEN_CHARS}"
        )


_ROWS_OF_BATCH = f"""{BATCH} = {{batch:String}} AND route IN {{routes:Array(String)}}
  AND ended_at >= fromUnixTimestamp64Micro({{first:Int64}}, 'UTC')
  AND ended_at <= fromUnixTimestamp64Micro({{last:Int64}}, 'UTC')"""

_SECONDS_OF_BATCH = f"""{BATCH} = {{batch:String}} AND route IN {{routes:Array(String)}}
  AND second >= toDateTime(fromUnixTimestamp64Micro({{first:Int64}}, 'UTC'), 'UTC')
  AND second <= toDateTime(fromUnixTimestamp64Micro({{last:Int64}}, 'UTC'), 'UTC')"""

_COUNTED = ",\n  ".join(
    f"(SELECT sum(b.rows) FROM {aggregate.table} AS b FINAL WHERE {_SECONDS_OF_BATCH})"
    for aggregate in AGGREGATES
)
COUNT_STORED = f"""SELECT
  (SELECT count() FROM {ROWS} WHERE {_ROWS_OF_BATCH}),
  {_COUNTED}"""
"""Rows of one batch, and rows that its counts and its sums stand for."""

STORED_RECORD_IDS = f"SELECT record_id FROM {ROWS} WHERE {_ROWS_OF_BATCH}"

RECOUNTS = tuple(
    f"INSERT INTO {aggregate.table}\n{aggregate.selection}\n"
    f"WHERE {_ROWS_OF_BATCH}\nGROUP BY {aggregate.keys}"
    for aggregate in AGGREGATES
)
"""What one batch comes to again, from its rows; in the order of `COUNT_STORED`. The keys are the
same, so it replaces, never adds."""
