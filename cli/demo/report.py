"""What the demo proves, counted afterwards: every answer has one row, and the aggregates agree."""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import clickhouse_connect
import msgspec
from clickhouse_connect.driver.asyncclient import AsyncClient

from mlops.feature_store.settings import ClickHouseSettings

DRAIN_TIMEOUT_S = 30.0
"""The recorder is at most a second or two behind; past this rows are missing."""

AGREEMENT_TIMEOUT_S = 10.0
POLL_S = 0.25


class Promoted(msgspec.Struct, frozen=True, kw_only=True):
    """How the better version went."""

    seconds: float
    canary_requests: int


class RolledBack(msgspec.Struct, frozen=True, kw_only=True):
    """How the worse version went."""

    seconds: float
    canary_requests: int
    reason: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo proved; also in `var/demo/report.json`."""

    requests: int
    answered: int
    rows: int
    client_errors: int
    promoted: Promoted | None
    rolled_back: RolledBack | None
    false: list[str]
    """What is not as it must be, a sentence each; empty when the demo proved its point."""

    def write(self, path: Path) -> None:
        """As JSON; its folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCheck:
    """What the log holds, beside what was answered."""

    rows: int
    missing: int
    """Answered ids without a row."""
    repeated: int
    """Ids with more than one row."""
    difference: str
    """Between the aggregates and a fresh aggregation of the rows; empty if there is none."""


async def check_log(settings: ClickHouseSettings, answered: AbstractSet[str]) -> LogCheck:
    """Wait until every answered id has a row (bounded), then compare rows and aggregates."""
    client = await clickhouse_connect.get_async_client(
        host=settings.host,
        port=settings.port,
        username=settings.user,
        password=settings.password,
        database=settings.database,
    )
    try:
        rows_by_id = await _wait_for_rows(client, answered)
        return LogCheck(
            rows=sum(rows_by_id.values()),
            missing=len(answered - rows_by_id.keys()),
            repeated=sum(1 for count in rows_by_id.values() if count > 1),
            difference=await wait_for_agreement(client),
        )
    finally:
        await client.close()


async def _wait_for_rows(client: AsyncClient, answered: AbstractSet[str]) -> dict[str, int]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DRAIN_TIMEOUT_S
    while True:
        found = await client.query(
            "SELECT request_id, count() FROM query_features GROUP BY request_id"
        )
        rows_by_id = {str(name): int(count) for name, count in found.result_rows}
        if answered <= rows_by_id.keys() or loop.time() >= deadline:
            return rows_by_id
        await asyncio.sleep(POLL_S)


async def wait_for_agreement(client: AsyncClient) -> str:
    """How the per-second aggregates differ from a fresh aggregation of the rows; empty: not at all.

    An insert reaches the rows a moment before the view, so a difference is looked at again until
    it is gone or `AGREEMENT_TIMEOUT_S` has passed.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + AGREEMENT_TIMEOUT_S
    while difference := await _difference(client):
        if loop.time() >= deadline:
            return difference
        await asyncio.sleep(POLL_S)
    return ""


async def _difference(client: AsyncClient) -> str:
    kept = await client.query(
        "SELECT route, generation, arm, second, rows, requests, errors FROM second_counts"
    )
    fresh = await client.query(
        "SELECT route, generation, arm, toDateTime(ended_at, 'UTC') AS second, count(), "
        "countIf(kind = 'served' AND outcome != 'cancelled'), "
        "countIf(kind = 'served' AND outcome != 'cancelled' AND first_attempt_outcome IN "
        "('upstream_error', 'timeout', 'reset', 'truncated')) "
        "FROM query_features GROUP BY ALL"
    )
    only_kept = set(kept.result_rows) - set(fresh.result_rows)
    only_fresh = set(fresh.result_rows) - set(kept.result_rows)
    if not only_kept and not only_fresh:
        return ""
    return f"aggregates {list(only_kept)[:3]}, rows {list(only_fresh)[:3]}"
