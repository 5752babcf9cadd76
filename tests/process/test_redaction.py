"""What the rules take out is nowhere once it is acknowledged: in no file, table or log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config import parse
from gateway.record import ExchangeRecord
from gateway.recorder.app import Recorder
from gateway.recorder.rules_file import rules_of
from gateway.recorder.settings import RecorderSettings
from gateway.settings import SpoolSettings
from gateway.spool.writer import SpoolWriter
from gateway.stamp import Stamp
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.settings import ClickHouseSettings
from tests.process.spool_worker import _record

pytestmark = pytest.mark.process

FILE = """
routes:
  - name: rag
    match: {prefix: /}
    stable: {version: "1", endpoints: ["http://127.0.0.1:1"]}
    record:
      profile: native
      redact:
        user_id: {hash: {env: HASH_SECRET}}
        session_id: drop
        query_text: {mask: [email, phone, card, ip]}
"""
ENVIRON = {"HASH_SECRET": "a secret only the recorder has"}
SECRETS = {
    "user_id": "user-5b1f77aa",
    "session_id": "session-90cc13de",
    "email": "zelda.quartz@example.org",
    "phone": "+49 30 5551 7788",
    "card": "4111 1111 1111 1111",
    "ip": "203.0.113.77",
}
KEPT = "how do I return my order"
WAIT_S = 30.0


def question(**changes: Any) -> dict[str, Any]:
    text = f"{KEPT}, mail {SECRETS['email']} or call {SECRETS['phone']}"
    text += f" about card {SECRETS['card']} from {SECRETS['ip']}"
    who = {name: SECRETS[name] for name in ("user_id", "session_id")}
    return {"query_text": text, **who, **changes}


def exchanges() -> list[ExchangeRecord]:
    """A row, a dead letter, a body that is no JSON, and records that cannot be read."""
    answers: list[dict[str, Any]] = [{}, {"relevance_score": 7}, {"relevance_score": "x"}]
    made = []
    for answer in answers:
        made.append(_exchange(json.dumps(question()), json.dumps({**question(), **answer})))
    made.append(_exchange(json.dumps(question())[:-1], json.dumps(question())))
    unknown = msgspec.json.decode(made[0].stamp, type=Stamp)
    elsewhere = _exchange(json.dumps(question()), json.dumps(question()))
    elsewhere.stamp = msgspec.json.encode(msgspec.structs.replace(unknown, route="gone"))
    unreadable = _exchange(json.dumps(question()), json.dumps(question()))
    unreadable.stamp = b"{}"
    late = _exchange(json.dumps(question()), json.dumps(question()))
    late.ended_at_us = 2**62
    return [*made, elsewhere, unreadable, late]


def _exchange(asked: str, answered: str) -> ExchangeRecord:
    record = _record()
    record.request_id = b"r"
    record.request_body, record.response_body = asked.encode(), answered.encode()
    record.started_at_us = record.ended_at_us = time.time_ns() // 1_000
    return record


def found_in(data: bytes) -> set[str]:
    return {name for name, secret in SECRETS.items() if secret.encode() in data}


def found_on_disk(directory: Path) -> set[str]:
    found: set[str] = set()
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # the engine merges its parts
            found |= found_in(path.read_bytes()) if path.is_file() else set()
    return found


@contextlib.asynccontextmanager
async def recording(spool: Path, engine: ClickHouseSettings) -> AsyncIterator[Recorder]:
    log = await FeatureLog.connect(engine)
    rules = rules_of(parse(FILE, {}), ENVIRON)
    recorder = Recorder(
        RecorderSettings(spool_dir=spool, batch_s=0.05),
        log,
        jitter=lambda: 0.0,
        clock_s=time.monotonic,
        rules=lambda: rules,
    )
    try:
        async with recorder.running():
            yield recorder
    finally:
        await log.close()


async def test_nothing_redacted_is_left_anywhere(
    tmp_path: Path,
    engine: ClickHouseSettings,
    clickhouse: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    spool = tmp_path / "spool"
    writer = SpoolWriter.open(SpoolSettings(dir=spool))
    records = exchanges()
    for record in records:
        assert writer.offer(record)
    assert found_on_disk(spool) == set(SECRETS), "the search finds what is there"

    async with recording(spool, engine) as recorder, asyncio.timeout(WAIT_S):
        metrics = recorder.metrics
        while metrics.rows._value.get() + metrics.dead_letters._value.get() < len(records):
            await asyncio.sleep(0.02)
        while found_on_disk(spool):  # wiped just after the acknowledgement, in a living segment
            await asyncio.sleep(0.02)

    tables = [
        row[0]
        for row in clickhouse.query(
            "SELECT name FROM system.tables WHERE database = currentDatabase()"
        ).result_rows
    ]
    stored = b"".join(
        clickhouse.raw_query(f"SELECT * FROM {table} FORMAT JSONEachRow") for table in tables
    )
    assert KEPT.encode() in stored
    assert b"mail [email] or call [phone] about card [card] from [ip]" in stored
    assert b"cannot be read" in stored
    assert found_in(stored) == set()
    assert found_on_disk(tmp_path) == set()
    assert "cannot be read" in caplog.text
    assert found_in(caplog.text.encode()) == set()
    writer.close()
