"""Rows that the engine cannot take, among many that it can: a batch is split down to them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.recorder.app import Recorder
from gateway.recorder.settings import RecorderSettings
from gateway.settings import SpoolSettings
from gateway.spool.writer import SpoolWriter
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.settings import ClickHouseSettings
from tests.exchanges import recorded, stamp

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

ROWS = 700
REFUSED = {0, 333, 334, ROWS - 1}
TOO_LARGE = 70_000
"""A share that no 16 bits hold. No gateway makes it, and nothing before the engine looks."""
COUNTED = (
    "SELECT (SELECT sum(rows) FROM second_counts),"
    " (SELECT sum(arraySum(mapValues(latency_bins))) FROM second_counts),"
    " (SELECT sum(rows) FROM embedding_sums)"
)


async def test_each_is_a_dead_letter_and_the_others_are_stored_and_counted_once(
    tmp_path: Path, engine: ClickHouseSettings, clickhouse: Any
) -> None:
    writer = SpoolWriter.open(SpoolSettings(dir=tmp_path / "spool"))
    now_us = time.time_ns() // 1_000
    for number in range(ROWS):
        share_bp = TOO_LARGE if number in REFUSED else 500
        record = recorded(
            stamp=stamp(share_bp=share_bp, profile="native"), request_id=b"r%d" % number,
            response_body=b'{"relevance_score": 0.5, "embedding": [1, 2]}',
            started_at_us=now_us + number, ended_at_us=now_us + number,
        )  # fmt: skip
        assert writer.offer(record), writer.dropped
    writer.close()

    log = await FeatureLog.connect(engine)
    recorder = Recorder(
        RecorderSettings(spool_dir=tmp_path / "spool"),
        log,
        jitter=lambda: 0.0,
        clock_s=time.monotonic,
    )
    async with recorder.running(), asyncio.timeout(60):
        while (tmp_path / "spool" / writer.worker).exists():
            await asyncio.sleep(0.05)
    await log.close()

    stored = clickhouse.query("SELECT request_id FROM query_features ORDER BY ended_at").result_rows
    assert [name for (name,) in stored] == [f"r{n}" for n in range(ROWS) if n not in REFUSED]
    assert clickhouse.query(COUNTED).result_rows == [(ROWS - len(REFUSED),) * 3]
    letters = clickhouse.query("SELECT payload_excerpt, reason FROM dead_letters").result_rows
    assert len(letters) == len(REFUSED)
    assert all(f'"share_bp":{TOO_LARGE}' in excerpt for excerpt, _ in letters)
    assert all(reason.startswith("refused: ") for _, reason in letters)
    assert recorder.metrics.splits._value.get() >= len(REFUSED)
