"""Rows, scores and tallies made by the engine itself, far faster than they could be sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import clickhouse_connect

from mlops.contracts.tally import Tally, TallyEntry
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.settings import ClickHouseSettings

HOUR_S = 3600
SCORES_PER_SECOND = 30
GENERATION = 2
CANARY_SHARE_BP = 1000
SLICE_ROWS = 500_000
"""Of one INSERT: what the engine's memory bears."""
FILL_TIMEOUT_S = 600
RECORDER_ROWS = 1_000
"""Of one batch: the recorder sends one a second, or more where it has so many rows sooner."""

ROWS = f"""INSERT INTO query_features (record_id, request_id, route, model, generation, share_bp,
  bucket, arm, served_arm, version, kind, started_at, ended_at, status, outcome,
  first_attempt_outcome, attempts, latency_us, first_byte_us, query_id, query_text, embedding,
  relevance_score, user_id, batch)
SELECT toString(number), lower(hex(sipHash128(number))), 'rag', 'rag', {GENERATION},
  {CANARY_SHARE_BP}, cityHash64(number) % 10000 AS place,
  if(place < {CANARY_SHARE_BP}, 'canary', 'stable') AS assigned, assigned, 'v', 'served',
  ended_at - toIntervalMillisecond(50),
  toDateTime64({{start:Int64}} + intDiv(number, {{per_second:UInt64}}), 6, 'UTC') AS ended_at,
  200, 'ok', if(cityHash64(number, 1) % 1000 < 5, 'upstream_error', 'ok'), 1,
  toUInt64(40000 * exp(randNormal(0, 0.4))) AS took, took, toString(number),
  concat('what is ', hex(sipHash128(number, 2))),
  arrayMap(i -> toFloat32((cityHash64(number, i) % 65536) / 327680 - 0.1), range({{dims:UInt64}})),
  (cityHash64(number, 3) % 1000) / 1000, toString(number % 5000),
  concat('fill-', toString(intDiv(number, least({{per_second:UInt64}}, {RECORDER_ROWS}))))
FROM numbers({{first:UInt64}}, {{rows:UInt64}})"""

SCORES = """INSERT INTO evaluations (request_id, name, score, received_at, batch, position)
SELECT lower(hex(sipHash128(number))), 'grade', (cityHash64(number, 5) % 1000) / 1000,
  toDateTime64({start:Int64} + intDiv(number, {per_second:UInt64})
    + cityHash64(number, 6) % {delay:UInt64}, 6, 'UTC'),
  'scores', number
FROM numbers({rows:UInt64}) WHERE number % {every:UInt64} = 0"""


@asynccontextmanager
async def patient_client(settings: ClickHouseSettings) -> AsyncIterator[Any]:
    client = await clickhouse_connect.get_async_client(
        host=settings.host,
        port=settings.port,
        database=settings.database,
        send_receive_timeout=FILL_TIMEOUT_S,
    )
    try:
        yield client
    finally:
        await client.close()


async def fill_rows(settings: ClickHouseSettings, rows: int, start: int, dims: int) -> int:
    """About `rows` rows over the hour from `start`; how many there are."""
    per_second = max(1, rows // HOUR_S)
    total = per_second * HOUR_S
    slice_rows = SLICE_ROWS if dims == 0 else 10_000
    async with patient_client(settings) as client:
        for first in range(0, total, slice_rows):
            await client.command(
                ROWS,
                parameters={
                    "start": start,
                    "per_second": per_second,
                    "dims": dims,
                    "first": first,
                    "rows": min(slice_rows, total - first),
                },
            )
    return total


async def fill_scores(settings: ClickHouseSettings, rows: int, start: int, delay_s: int) -> None:
    """`SCORES_PER_SECOND` late scores of the rows, each up to `delay_s` after its row."""
    per_second = rows // HOUR_S
    async with patient_client(settings) as client:
        await client.command(
            SCORES,
            parameters={
                "start": start,
                "per_second": per_second,
                "rows": rows,
                "every": max(1, per_second // SCORES_PER_SECOND),
                "delay": delay_s,
            },
        )


async def fill_tallies(log: FeatureLog, rows: int, start: int) -> None:
    """One worker's word on each second of the hour."""
    per_second = rows // HOUR_S
    canary = per_second * CANARY_SHARE_BP // 10_000
    entries = tuple(
        TallyEntry(route="rag", arm=arm, generation=GENERATION, answered=answered)
        for arm, answered in (("canary", canary), ("stable", per_second - canary))
    )
    tallies = [Tally(worker="w", second=start + s, entries=entries) for s in range(HOUR_S)]
    await log.insert_tallies(tallies, token="tallies")
