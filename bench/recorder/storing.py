"""From the spool into ClickHouse: rows per second beside rows that were ready, and how late."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import clickhouse_connect
import uvloop

from bench.recorder.engine import PYTHON, Engine, engine, recording
from bench.recorder.exchanges import GIB, RULES, chat, embedded, fill, percentile, writer_in
from bench.report import Measured
from gateway.record import ExchangeRecord
from gateway.recorder.entries import entry_of
from gateway.spool import segments
from gateway.spool.reader import WorkerReader
from mlops.contracts.record import ROW_COLUMNS, Row
from mlops.feature_store.migrations import migrate
from mlops.feature_store.schema import BATCH, ROW_TYPES, ROWS

CHATS = 24_000
EMBEDDED = 8_000
BATCH_ROWS = 4_000
ROUNDS = 5
MERGED_WITHIN_S = 60.0
NORMAL_PER_S = 200
NORMAL_S = 10
BACKLOG_BYTES = 10 * GIB if os.environ.get("FULL") else GIB // 2
MAX_MIB = 250.0


def extraction(directory: Path) -> list[Measured]:
    measures = []
    for name, record, rows in (("chat", chat(), CHATS), ("384 floats", embedded(), EMBEDDED)):
        spool = directory / name
        reader = WorkerReader(spool, fill(spool, record, rows))
        started, position = time.process_time(), reader.position
        while records := reader.read(200, final=True):
            for each in records:
                entry_of(reader.worker, position, each, RULES)
        cost_us = (time.process_time() - started) / rows * 1e6
        reader.close()
        what = f"read, extract and redact one row, CPU, {name}"
        measures.append(Measured(name=what, value=cost_us, unit="µs"))
    return measures


def storing(directory: Path) -> list[Measured]:
    """Rounds of the recorder and of prepared rows alternate beside one engine, each from rest: with
    no merges left of what the one before it stored.
    """
    with engine(directory / "clickhouse") as running:
        uvloop.run(migrate(running.settings))
        chats = _rounds(directory / "chat", running, chat(), CHATS)
        vectors = _rounds(directory / "vectors", running, embedded(), EMBEDDED)
        late_s = uvloop.run(_lateness(directory / "late", running))
    measures = [
        *_rates("chat", chats, (("must >= 8,000", 8_000), (">= 15,000", 15_000))),
        _over_prepared(chats),
        *_rates("384 floats", vectors, ((">= 5,000", 5_000),)),
    ]
    p99_s = percentile(late_s, 0.99)
    return [
        *measures,
        Measured(
            name=f"answer to queryable row at {NORMAL_PER_S}/s, p99", value=p99_s, unit="s",
            goal="<= 2.5", holds=p99_s <= 2.5, peers={"p50": median(late_s)},
        ),
    ]  # fmt: skip


def _rates(
    name: str, found: dict[str, list[float]], goals: Sequence[tuple[str, float]]
) -> list[Measured]:
    """What a second of a core is good for is the steadier figure on a machine with other work."""
    peers = {"prepared rows": median(found["rows"]), "columns": median(found["columns"])}
    rates = (
        (f"stored, {name}", median(found["recorder"]), peers),
        (f"stored in one second of a core, {name}", median(found["per core"]), {}),
    )
    return [
        Measured(name=what, value=rate, unit="rows/s", goal=goal, holds=rate >= least, peers=beside)
        for what, rate, beside in rates
        for goal, least in goals
    ]


def _over_prepared(found: dict[str, list[float]]) -> Measured:
    def over(peer: str) -> float:
        pairs = zip(found["recorder"], found[peer], strict=True)
        return median(ours / theirs for ours, theirs in pairs)

    value = over("rows")
    return Measured(
        name="stored over prepared rows, chat", value=value, unit="", goal=">= 0.5",
        holds=value >= 0.5, peers={"over prepared columns": over("columns")},
    )  # fmt: skip


def _rounds(
    directory: Path, running: Engine, record: ExchangeRecord, rows: int
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"recorder": [], "per core": [], "rows": [], "columns": []}
    for number in range(ROUNDS):
        spool = directory / str(number)
        worker = fill(spool, record, rows)
        prepared = _read(spool, worker)
        _let_merge(running)
        found["rows"].append(_prepared(running, prepared, in_columns=False))
        _let_merge(running)
        before = time.process_time()
        found["recorder"].append(rows / uvloop.run(_carried(spool, worker, running)))
        found["per core"].append(rows / (time.process_time() - before))
        _let_merge(running)
        found["columns"].append(_prepared(running, prepared, in_columns=True))
    return found


def _let_merge(running: Engine) -> None:
    """Wait until the engine has no merge under way, or a minute."""
    settings = running.settings
    client = clickhouse_connect.get_client(
        host=settings.host, port=settings.port, database=settings.database
    )
    until_s = time.monotonic() + MERGED_WITHIN_S
    while time.monotonic() < until_s:
        if not int(client.query("SELECT count() FROM system.merges").result_rows[0][0]):
            break
        time.sleep(0.1)
    client.close()


def _read(spool: Path, worker: str) -> list[Row]:
    reader = WorkerReader(spool, worker)
    rows = []
    while records := reader.read(200, final=True):
        for each in records:
            row = entry_of(worker, reader.position, each, RULES).row
            assert row is not None
            rows.append(row)
    reader.close()
    return rows


async def _carried(spool: Path, worker: str, running: Engine) -> float:
    async with recording(spool, running.settings):
        started = time.perf_counter()
        while worker in segments.workers_of(spool):
            await asyncio.sleep(0.005)
        return time.perf_counter() - started


def _prepared(running: Engine, rows: list[Row], *, in_columns: bool) -> float:
    """Rows per second of plain inserts, of batches as large as the recorder's."""
    settings = running.settings
    client = clickhouse_connect.get_client(
        host=settings.host, port=settings.port, database=settings.database, compress="lz4"
    )
    values = [(*(getattr(row, name) for name in ROW_COLUMNS), "prepared") for row in rows]
    batches = [values[at : at + BATCH_ROWS] for at in range(0, len(values), BATCH_ROWS)]
    data = [list(zip(*batch, strict=True)) for batch in batches] if in_columns else batches
    started = time.perf_counter()
    for batch in data:
        client.insert(
            ROWS,
            batch,
            column_names=[*ROW_COLUMNS, BATCH],
            column_type_names=[*ROW_TYPES.values(), "String"],
            column_oriented=in_columns,
        )
    elapsed_s = time.perf_counter() - started
    client.close()
    return len(rows) / elapsed_s


async def _lateness(spool: Path, running: Engine) -> list[float]:
    """Seconds from each offer until a query counts its row, under a normal load."""
    settings = running.settings
    client = await clickhouse_connect.get_async_client(
        host=settings.host, port=settings.port, database=settings.database
    )
    count = f"SELECT count() FROM {ROWS} WHERE request_id LIKE 'late-%'"
    offered: list[float] = []
    late: list[float] = []
    record = chat()
    with writer_in(spool) as writer:
        async with recording(spool, settings):
            started = time.perf_counter()
            while len(late) < NORMAL_PER_S * NORMAL_S:
                now = time.perf_counter()
                due = min(NORMAL_PER_S * NORMAL_S, int((now - started) * NORMAL_PER_S))
                while len(offered) < due:
                    record.request_id = b"late-%d" % len(offered)
                    record.started_at_us = record.ended_at_us = time.time_ns() // 1_000
                    assert writer.offer(record), writer.dropped
                    offered.append(time.perf_counter())
                seen = int((await client.query(count)).result_rows[0][0])
                now = time.perf_counter()
                late += [now - at for at in offered[len(late) : seen]]
                await asyncio.sleep(0.02)
    await client.close()
    return late


def memory(directory: Path) -> list[Measured]:
    """Peak memory of a recorder as a process of its own while it works off a backlog."""
    record = chat()
    spool = directory / "spool"
    rows = BACKLOG_BYTES // (len(record.request_body) + len(record.response_body) + 500)
    worker = fill(spool, record, rows, limit_bytes=BACKLOG_BYTES + GIB)
    config = directory / "gateway.yaml"
    config.write_text(
        f"spool: {{dir: {spool}}}\n"
        "routes: [{name: chat, match: {prefix: /},"
        ' stable: {version: "1", endpoints: ["http://127.0.0.1:1"]}}]\n'
    )
    with engine(directory / "clickhouse") as running:
        uvloop.run(migrate(running.settings))
        environ = {**os.environ, "MLOPS_CLICKHOUSE_HOST": "127.0.0.1"}
        environ["MLOPS_CLICKHOUSE_PORT"] = str(running.port)
        with subprocess.Popen(
            [*PYTHON, "-m", "gateway.recorder", "--config", str(config)],
            env=environ,
            stderr=subprocess.DEVNULL,
        ) as recorder:
            while worker in segments.workers_of(spool) and recorder.poll() is None:
                time.sleep(0.1)
            status = Path(f"/proc/{recorder.pid}/status").read_text()
            recorder.terminate()
    peak_mib = int(status.split("VmHWM:")[1].split()[0]) / 1024
    return [
        Measured(
            name=f"recorder's peak memory, backlog of {BACKLOG_BYTES / GIB:g} GiB",
            value=peak_mib,
            unit="MiB",
            goal=f"<= {MAX_MIB:g}",
            holds=peak_mib <= MAX_MIB,
        )
    ]
