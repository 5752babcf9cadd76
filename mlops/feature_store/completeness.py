"""How complete the log is: rows stored over requests answered, as the workers' tallies have it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from mlops.feature_store.tables import SECOND_BATCHES, TALLIES

STORED_AND_ANSWERED: Final = f"""SELECT route, arm, generation, second, b.rows AS stored,
    toUInt64(0) AS told, toUInt64(0) AS lost
  FROM {SECOND_BATCHES} AS b FINAL{{where}}
  UNION ALL
  SELECT route, arm, generation, second, toUInt64(0) AS stored,
    count AS told, arraySum(mapValues(reasons)) AS lost
  FROM {TALLIES} FINAL
  ARRAY JOIN routes AS route, arms AS arm, generations AS generation, answered AS count,
    dropped AS reasons{{where}}"""
"""Both sides of the division, a line for each; `{where}` is a WHERE on `second`, or nothing."""

_SPAN: Final = (
    "\n  WHERE second BETWEEN toDateTime({since:Int64}, 'UTC') AND toDateTime({until:Int64}, 'UTC')"
)

COMPLETENESS_OF_SPAN: Final = f"""SELECT route, arm, sum(stored), sum(told), sum(lost)
FROM (
  {STORED_AND_ANSWERED.format(where=_SPAN)}
)
GROUP BY route, arm
ORDER BY route, arm"""


class Completeness(msgspec.Struct, frozen=True, kw_only=True):
    """One arm of a route over some closed seconds."""

    route: str
    arm: str
    stored: int
    answered: int
    dropped: int
    """Of the answered, those that a gateway says it did not spool."""

    @property
    def ratio(self) -> float | None:
        """Stored over answered: 1.0 is whole. None: by the tallies nothing was answered."""
        return self.stored / self.answered if self.answered else None


def completeness_of(rows: Iterable[Sequence[Any]]) -> tuple[Completeness, ...]:
    """From the answer to `COMPLETENESS_OF_SPAN`."""
    return tuple(
        Completeness(route=route, arm=arm, stored=stored, answered=answered, dropped=dropped)
        for route, arm, stored, answered, dropped in rows
    )
