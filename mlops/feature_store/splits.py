"""How a route's traffic was split in the past, as the rows say it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from mlops.contracts.plan import Arm
from mlops.contracts.record import Kind
from mlops.feature_store.tables import ROWS


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """One generation, as far as it lies in the span that was asked for."""

    generation: int
    share_bp: int
    """In force away from stable; 0 if nothing was."""
    has_canary: bool
    has_holdback: bool
    first_second: int
    last_second: int
    stable_version: str
    other_version: str
    """Of the canary, else of the holdback; empty if there was neither."""


_SPAN = """ended_at >= toDateTime64({since:Int64}, 6, 'UTC')
  AND ended_at < toDateTime64({until:Int64} + 1, 6, 'UTC')"""

SPLITS = f"""SELECT generation, max(share_bp), countIf(arm = '{Arm.CANARY}') > 0,
  countIf(arm = '{Arm.HOLDBACK}') > 0,
  toUnixTimestamp(toDateTime(min(ended_at), 'UTC')),
  toUnixTimestamp(toDateTime(max(ended_at), 'UTC')),
  anyIf(version, arm = '{Arm.STABLE}'), anyIf(version, arm != '{Arm.STABLE}')
FROM {ROWS}
WHERE route = {{route:String}} AND kind = '{Kind.SERVED}' AND {_SPAN}
GROUP BY generation
ORDER BY generation"""


def splits(rows: Iterable[Sequence[Any]]) -> tuple[Split, ...]:
    """From the answer to `SPLITS`, by generation."""
    return tuple(
        Split(
            generation=row[0],
            share_bp=row[1],
            has_canary=bool(row[2]),
            has_holdback=bool(row[3]),
            first_second=row[4],
            last_second=row[5],
            stable_version=row[6],
            other_version=row[7],
        )
        for row in rows
    )
