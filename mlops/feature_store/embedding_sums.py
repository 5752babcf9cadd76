"""What the detectors of drift read: sums of embeddings per span of seconds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from mlops.contracts.evidence import EmbeddingSums
from mlops.feature_store.aggregates import EMBEDDING_TYPES, added_by
from mlops.feature_store.tables import EMBEDDING_BATCHES, ROWS, SECONDS

MAX_SPANS: Final = 10_000
"""Of one read: with embeddings of 384 numbers about 30 MB for each arm."""

_COLUMNS: Final = tuple(name for name in EMBEDDING_TYPES if name != "rows")

SUMS: Final = f"""SELECT
  {{since:Int64}} + intDiv(toUnixTimestamp(second) - {{since:Int64}}, {{every:Int64}})
    * {{every:Int64}} AS at,
  generation, arm, dims,
  {", ".join(f"{added_by(EMBEDDING_TYPES[name])}(b.{name})" for name in _COLUMNS)}
FROM {EMBEDDING_BATCHES} AS b FINAL
WHERE route = {{route:String}} AND b.count > 0
  AND second BETWEEN toDateTime({{since:Int64}}, 'UTC') AND toDateTime({{until:Int64}}, 'UTC')
GROUP BY at, generation, arm, dims
ORDER BY at, generation, arm, dims"""


class EmbeddingSample(NamedTuple):
    """Which embeddings are read: of one version, so of one embedding space."""

    route: str
    version: str
    dims: int
    """Numbers in each."""
    limit: int


SAMPLE: Final = f"""SELECT embedding
FROM {ROWS}
WHERE route = {{route:String}} AND version = {{version:String}} AND kind = 'served'
  AND length(embedding) = {{dims:UInt32}}
  AND ended_at >= fromUnixTimestamp64Micro({{since:Int64}} * 1000000)
  AND ended_at < fromUnixTimestamp64Micro(({{until:Int64}} + 1) * 1000000)
ORDER BY route, ended_at
LIMIT {{limit:UInt32}}"""
"""The first of a stretch of time. In the order of the table, so that no more is read than that."""

HOURS: Final = f"""SELECT toDate(second) AS day, toHour(second) AS hour, sum(requests)
FROM {SECONDS}
WHERE route = {{route:String}}
  AND second >= toDateTime({{since:Int64}}, 'UTC') AND second < toDateTime({{until:Int64}}, 'UTC')
GROUP BY day, hour"""


def check_span(since: int, until: int, every_s: int) -> None:
    """Refuse a span that would bring more than a reader can hold.

    Raises:
        ValueError: `every_s` is not positive, or there are more than `MAX_SPANS` spans.
    """
    if every_s < 1:
        raise ValueError(f"every_s {every_s} is not a positive number of seconds")
    spans = (until - since) // every_s + 1
    if spans > MAX_SPANS:
        raise ValueError(
            f"{spans:,} spans of {every_s} s from {since} to {until}, at most {MAX_SPANS:,}; "
            "a greater every_s reads a longer time"
        )


def embedding_sums(rows: Iterable[Sequence[Any]]) -> tuple[EmbeddingSums, ...]:
    """From the answer to `SUMS`."""
    return tuple(
        EmbeddingSums(
            second=row[0],
            generation=row[1],
            arm=row[2],
            dims=row[3],
            **dict(zip(_COLUMNS, row[4:], strict=True)),
        )
        for row in rows
    )
