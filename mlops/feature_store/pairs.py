"""What shadow mode reads: both answers to the requests that were mirrored. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from mlops.contracts.evidence import Pair, PairSide
from mlops.contracts.record import Kind
from mlops.feature_store.tables import ROWS

PAIR_WITHIN_S: Final = 600
"""Two answers to one request end at most this long apart; the longest timeout is shorter."""

_SIDE: Final = PairSide.__struct_fields__
_COLUMN_OF: Final = {"arm": "served_arm"}


def _answers(kind: Kind) -> str:
    side = ", ".join(_COLUMN_OF.get(name, name) for name in _SIDE)
    return f"""SELECT request_id, generation, record_id, started_at,
      toUnixTimestamp64Micro(ended_at) AS ended_us, tuple({side}) AS side
    FROM {ROWS}
    WHERE route = {{route:String}} AND kind = '{kind}'
      AND ended_at >= toDateTime64({{since:Int64}} - {PAIR_WITHIN_S}, 6, 'UTC')
      AND ended_at < toDateTime64({{until:Int64}} + 1, 6, 'UTC')"""


PAIRS: Final = f"""SELECT request_id, generation, at, served, mirror
FROM (
  SELECT m.request_id AS request_id, m.generation AS generation, m.record_id AS record_id,
    greatest(m.ended_us, s.ended_us) AS at, s.side AS served, m.side AS mirror
  FROM (
    {_answers(Kind.MIRROR)}
  ) AS m
  INNER JOIN (
    {_answers(Kind.SERVED)}
  ) AS s ON s.request_id = m.request_id AND s.generation = m.generation
  ORDER BY abs(dateDiff('microsecond', s.started_at, m.started_at)), s.record_id
  LIMIT 1 BY m.record_id
)
WHERE at >= {{since:Int64}} * 1000000
ORDER BY at, record_id
LIMIT {{limit:UInt32}}"""
"""Each mirrored row with the served one of its request; where an id was used again, with the one
that began nearest to it."""


def pairs(rows: Iterable[Sequence[Any]]) -> tuple[Pair, ...]:
    """From the answer to `PAIRS`."""
    return tuple(
        Pair(
            request_id=request_id,
            generation=generation,
            ended_at_us=ended_at_us,
            served=PairSide(**dict(zip(_SIDE, served, strict=True))),
            mirror=PairSide(**dict(zip(_SIDE, mirror, strict=True))),
        )
        for request_id, generation, ended_at_us, served, mirror in rows
    )
