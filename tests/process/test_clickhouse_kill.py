"""`kill -9` of the engine in the middle of an insert: rows and counts are there exactly once."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mlops.contracts.evidence import KEY_GROUPS, count_bin, latency_bin, score_bin
from mlops.contracts.record import ERROR_OUTCOMES, Row
from mlops.feature_store.aggregates import BINS, COUNTS
from mlops.feature_store.errors import Unavailable
from mlops.feature_store.log import FeatureLog
from mlops.feature_store.migrations import migrate
from tests.process.engine_process import ENGINE, EngineProcess

pytestmark = pytest.mark.process

START = datetime(2026, 3, 1, 23, 59, 57, tzinfo=UTC)
"""Three seconds before midnight: every batch reaches into two partitions."""

BATCH_ROWS = 1_000
ROUNDS = int(os.environ.get("ROUNDS", "6"))
"""More of them on demand: each is some batches, one kill and a restart of a second."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    process = EngineProcess(tmp_path / "a database")
    process.start()
    yield process
    process.end(signal.SIGKILL)


@cache
def batch(number: int) -> list[Row]:
    rng = random.Random(number)
    rows = []
    for sequence in range(BATCH_ROWS):
        ended = START + timedelta(milliseconds=number * 20 + sequence * 3)
        outcome = rng.choices(["ok", "client_error", "timeout", "cancelled"], [90, 4, 3, 3])[0]
        latency_us = int(rng.lognormvariate(10, 1.5))
        rows.append(
            Row(
                record_id=f"w0-{number}-{sequence}",
                request_id=f"r{rng.randrange(10**9)}",
                route=rng.choice(["rag", "embed"]),
                model="m",
                generation=number // 3,
                share_bp=500,
                bucket=rng.randrange(10_000),
                arm=rng.choice(["stable", "canary"]),
                served_arm="stable",
                version="1.2",
                kind=rng.choices(["served", "mirror"], [9, 1])[0],
                started_at=ended - timedelta(microseconds=latency_us),
                ended_at=ended,
                status=200,
                outcome=outcome,
                first_attempt_outcome=rng.choice([outcome, "reset"]),
                attempts=1,
                latency_us=latency_us,
                first_byte_us=latency_us // 2,
                events=rng.randrange(4),
                max_event_gap_us=latency_us // 3,
                request_bytes=100,
                response_bytes=1000,
                refused=rng.choice([None, False, True]),
                retrieved_count=rng.choice([None, 0, 5]),
                answer_chars=rng.choice([None, rng.randrange(5_000)]),
                relevance_score=rng.choice([None, rng.random()]),
                embedding=[rng.random() for _ in range(8)],
            )
        )
    return rows


def counts_of(row: Row) -> list[str]:
    """What one row adds one to, by the words of the contract."""
    if row.kind != "served":
        return ["rows"]
    if row.outcome == "cancelled":
        return ["rows", "cancelled"]
    happened = {
        "rows": True,
        "requests": True,
        "errors": row.first_attempt_outcome in ERROR_OUTCOMES,
        "client_errors": row.first_attempt_outcome == "client_error",
        "refusal_known": row.refused is not None,
        "refusals": row.refused,
        "retrieval_known": row.retrieved_count is not None,
        "empty_retrievals": row.retrieved_count == 0,
    }
    return [name for name, counted in happened.items() if counted]


def bins_of(row: Row) -> dict[str, int]:
    """The bin of each histogram that one row adds one to."""
    if row.kind != "served":
        return {}
    if row.outcome == "cancelled":
        return {"cancelled_bins": latency_bin(row.latency_us)}
    group = row.bucket % KEY_GROUPS
    bins = {"latency_bins": latency_bin(row.latency_us), "request_groups": group}
    if row.first_attempt_outcome in ERROR_OUTCOMES:
        bins["error_groups"] = group
    if row.first_byte_us:
        bins["first_byte_bins"] = latency_bin(row.first_byte_us)
    if row.events > 1:
        bins["gap_bins"] = latency_bin(row.max_event_gap_us)
    if row.answer_chars is not None:
        bins["answer_chars_bins"] = count_bin(row.answer_chars)
    if row.relevance_score is not None:
        bins["score_bins"] = score_bin(row.relevance_score)
    return bins


def expected_counts(batches: list[list[Row]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Counts per route, generation, arm and second; one that is nothing is not named."""
    expected: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in (row for rows in batches for row in rows):
        key = (row.route, row.generation, row.arm, row.ended_at.replace(microsecond=0))
        counts = expected.setdefault(key, {})
        for name in counts_of(row):
            counts[name] = counts.get(name, 0) + 1
        for name, index in bins_of(row).items():
            bins = counts.setdefault(name, {})
            bins[index] = bins.get(index, 0) + 1
    return expected


def stored_counts(engine: EngineProcess) -> dict[tuple[Any, ...], dict[str, Any]]:
    stored = {}
    columns = ", ".join((*COUNTS, *BINS))
    for route, generation, arm, second, *counts in engine.rows(
        f"SELECT route, generation, arm, second, {columns} FROM second_counts"
    ):
        named = dict(zip((*COUNTS, *BINS), counts, strict=True))
        key = (route, generation, arm, second.replace(tzinfo=UTC))
        stored[key] = {name: count for name, count in named.items() if count}
    return stored


def expected_sums(batches: list[list[Row]]) -> dict[tuple[Any, ...], tuple[int, list[float]]]:
    """Served queries per route, generation, arm and second, and the sum of their embeddings."""
    expected: dict[tuple[Any, ...], tuple[int, list[float]]] = {}
    for row in (row for rows in batches for row in rows if row.kind == "served"):
        key = (row.route, row.generation, row.arm, row.ended_at.replace(microsecond=0))
        count, total = expected.get(key, (0, [0.0] * len(row.embedding)))
        added = [a + b for a, b in zip(total, row.embedding, strict=True)]
        expected[key] = (count + 1, added)
    return expected


def check_sums(engine: EngineProcess, batches: list[list[Row]]) -> None:
    stored = {
        (route, generation, arm, second.replace(tzinfo=UTC)): (count, total)
        for route, generation, arm, second, count, total in engine.rows(
            "SELECT route, generation, arm, second, count, sum FROM embedding_sums WHERE count > 0"
        )
    }
    expected = expected_sums(batches)
    assert stored.keys() == expected.keys()
    for key, (count, total) in expected.items():
        assert stored[key][0] == count
        assert stored[key][1] == pytest.approx(total, rel=1e-5)


def check_exactly_once(engine: EngineProcess, batches: list[list[Row]]) -> None:
    total = sum(len(rows) for rows in batches)
    sql = "SELECT count(), uniqExact(record_id) FROM query_features"
    assert [(total, total)] == engine.rows(sql)
    assert stored_counts(engine) == expected_counts(batches)
    check_sums(engine, batches)


async def insert_until_killed(
    engine: EngineProcess, log: FeatureLog, first: int, kill_after_s: float
) -> int:
    """Insert batches from number `first` on while the engine is killed.

    Returns the number of the batch whose outcome is unknown.
    """
    assert engine.process is not None
    asyncio.get_running_loop().call_later(kill_after_s, engine.process.kill)
    number = first
    while True:
        try:
            await log.insert_rows(batch(number), token=f"w0/{number}")
        except Unavailable:
            return number
        number += 1


async def kill_rounds(engine: EngineProcess, rounds: int, seed: int) -> Counter[str]:
    """Kill, restart, retry with the same token, compare; returns what the engine held each time."""
    rng = random.Random(seed)
    await migrate(engine.settings)
    log = await FeatureLog.connect(engine.settings)
    seen: Counter[str] = Counter()
    done = 0
    for _ in range(rounds):
        unknown = await insert_until_killed(engine, log, done, rng.uniform(0.02, 0.6))
        engine.end(signal.SIGKILL)
        engine.start()
        where = f"WHERE batch = 'w0/{unknown}'"
        stored = engine.rows(f"SELECT count() FROM query_features {where}")[0][0]
        counted = engine.rows(f"SELECT sum(rows) FROM second_count_batches FINAL {where}")[0][0]
        seen[f"{_part_of(stored)} of the rows, {_part_of(counted)} of the counts"] += 1
        await log.insert_rows(batch(unknown), token=f"w0/{unknown}")
        done = unknown + 1
        check_exactly_once(engine, [batch(number) for number in range(done)])
    await log.close()
    return seen


def _part_of(count: int) -> str:
    return {0: "none", BATCH_ROWS: "all"}.get(count, "part")


@pytest.mark.timeout(60 + 12 * ROUNDS)
async def test_a_killed_engine_has_every_row_and_count_exactly_once(engine: EngineProcess) -> None:
    seen = await kill_rounds(engine, ROUNDS, seed=20260301)

    assert sum(seen.values()) == ROUNDS


@pytest.mark.parametrize(
    "lost", ["query_features", "second_count_batches", "embedding_sum_batches", "all"]
)
async def test_parts_that_the_engine_only_remembers_are_made_up_for(
    engine: EngineProcess, lost: str
) -> None:
    """A token is written down before its part is in place; a kill in between loses the part."""
    await migrate(engine.settings)
    log = await FeatureLog.connect(engine.settings)
    for number in range(2):
        await log.insert_rows(batch(number), token=f"w0/{number}")
    await log.close()
    every = ["query_features", "second_count_batches", "embedding_sum_batches"]
    tables = every if lost == "all" else [lost]
    paths = [
        Path(path)
        for table in tables
        for (path,) in engine.rows(
            f"SELECT path FROM system.parts WHERE active AND table = '{table}'"
            " AND partition = '2026-03-02'"
        )
    ]
    engine.end(signal.SIGKILL)
    for path in paths:
        shutil.rmtree(path if path.is_absolute() else engine.directory / path)
    engine.start()
    sql = "SELECT count() FROM query_features"
    assert (engine.rows(sql)[0][0] < 2 * BATCH_ROWS) == (lost in {"query_features", "all"})

    log = await FeatureLog.connect(engine.settings)
    for number in range(2):
        await log.insert_rows(batch(number), token=f"w0/{number}")
    await log.close()

    assert paths
    check_exactly_once(engine, [batch(0), batch(1)])


def test_sigterm_ends_cleanly_and_soon(engine: EngineProcess) -> None:
    began = time.monotonic()

    assert engine.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 10


def test_sigterm_does_not_wait_for_ever_for_a_statement(engine: EngineProcess) -> None:
    asyncio.run(migrate(engine.settings))
    running = socket.create_connection(("127.0.0.1", engine.port), timeout=20)
    sql = b"SELECT count() FROM numbers(10000000000000) WHERE sipHash64(number) = 1"
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(sql)
    running.sendall(head + sql)
    wait_until(lambda: engine.rows("SELECT count() FROM system.processes") == [(2,)])

    began = time.monotonic()
    assert engine.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 15
    running.close()

    engine.start()
    assert engine.rows("SELECT 1") == [(1,)]


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline, "not within 20 s"
        time.sleep(0.05)


def test_a_second_process_on_the_directory_is_told_so(engine: EngineProcess) -> None:
    second = subprocess.run(
        [*ENGINE, "--path", str(engine.directory), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert second.returncode == 1
    assert f"{engine.directory} is open in another process" in second.stderr
    assert second.stdout == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com"])
def test_another_address_than_loopback_is_refused(tmp_path: Path, host: str) -> None:
    """Every password is taken, so nobody outside this machine may ask."""
    refused = subprocess.run(
        [*ENGINE, "--path", str(tmp_path / "db"), "--port", "0", "--host", host],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert refused.returncode == 2
    assert "not a loopback address" in refused.stderr
