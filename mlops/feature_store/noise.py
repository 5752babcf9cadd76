"""Stable against stable: what groups of its keys, or its servers, gave at the same time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, Final

import msgspec

from mlops.contracts.evidence import KEY_GROUPS
from mlops.contracts.plan import Arm
from mlops.contracts.record import ERROR_OUTCOMES, Kind, Outcome
from mlops.feature_store.aggregates import bin_sql
from mlops.feature_store.tables import ROWS, SECONDS

_ERRORS: Final = ", ".join(f"'{one}'" for one in sorted(map(str, ERROR_OUTCOMES)))

STABLE_REQUESTS: Final = f"""SELECT route, sum(requests)
FROM {SECONDS}
WHERE arm = '{Arm.STABLE}'
  AND second BETWEEN toDateTime({{since:Int64}}, 'UTC') AND toDateTime({{until:Int64}}, 'UTC')
GROUP BY route
ORDER BY route"""


class Among(Enum):
    """What is compared with one another: how a row tells its group, and which rows have one."""

    KEYS = (f"toString(bucket % {KEY_GROUPS})", "1", "1")
    ENDPOINTS = ("first_attempt_endpoint", "first_attempt_endpoint != ''", "attempts = 1")
    """By the first attempt, because that is what the errors are of; how long it all took tells of
    one endpoint only where no other was asked."""

    def __init__(self, group: str, has_one: str, is_of_it: str) -> None:
        self.group = group
        self.has_one = has_one
        self.is_of_it = is_of_it


def noise_sql(among: Among) -> str:
    """The statement; parameters `route`, `since`, `until`, `every`."""
    return f"""SELECT
  intDiv(toUnixTimestamp(ended_at) - {{since:Int64}}, {{every:Int64}}) AS block,
  {among.group} AS key_group,
  count(), countIf(first_attempt_outcome IN ({_ERRORS})),
  sumMapIf(map({bin_sql("latency_us")}, toUInt64(1)), {among.is_of_it}),
  sumMapIf(map({bin_sql("first_byte_us")}, toUInt64(1)), first_byte_us > 0 AND {among.is_of_it}),
  count(relevance_score), sum(ifNull(relevance_score, 0))
FROM {ROWS}
WHERE route = {{route:String}} AND arm = '{Arm.STABLE}' AND kind = '{Kind.SERVED}'
  AND outcome != '{Outcome.CANCELLED}' AND {among.has_one}
  AND ended_at >= toDateTime64({{since:Int64}}, 6, 'UTC')
  AND ended_at < toDateTime64({{until:Int64}} + 1, 6, 'UTC')
GROUP BY block, key_group
ORDER BY block, key_group"""


class GroupCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one group of stable's in one block of time."""

    block: int
    group: str
    """`bucket % KEY_GROUPS`, or an endpoint."""
    requests: int
    errors: int
    latency_bins: dict[int, int]
    first_byte_bins: dict[int, int]
    scored: int
    score_total: float


def group_counts(rows: Iterable[Sequence[Any]]) -> tuple[GroupCounts, ...]:
    """From the answer to `noise_sql`."""
    names = GroupCounts.__struct_fields__
    return tuple(GroupCounts(**dict(zip(names, row, strict=True))) for row in rows)
