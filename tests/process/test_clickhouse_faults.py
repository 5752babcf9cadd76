"""ClickHouse away, slow, stalled, refusing, out of disk, and a spool without room, under load.

Clients ask a real gateway all the while. Each ends with every id that was answered stored once or
counted as dropped, aggregates that stand for the rows, answers about as quick as before or as the
upstream's own meanwhile, and a line in the log. `AWAY_S=60` makes the outages longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import clickhouse_connect
import pytest

from gateway.spool.segments import workers_of
from mlops.local.stack import Stack

AWAY_S = float(os.environ.get("AWAY_S", "2"))
DISK_BYTES = 300 * 1024**2
SPOOL_DISK_BYTES = 16 * 1024**2
MEANWHILE = 300
"""Requests that must be answered while the fault lasts."""
LONG_ANSWER = "x" * 50_000
"""A few hundred of them are all the segments that are ready."""

pytestmark = [pytest.mark.process, pytest.mark.timeout(110 + 8 * AWAY_S)]


class Pipeline:
    """Clients, a gateway, a recorder and the engine behind it."""

    def __init__(self, stack: Stack, traffic: Any) -> None:
        self.stack = stack
        self.traffic = traffic
        self.directory = stack.directory

    def stored(self) -> int:
        return int(self.query("SELECT count() FROM query_features")[0][0])

    async def go_on_answering(self) -> Any:
        """Until the outage is long enough; nobody waits for what is away. When it began."""
        since, until_s = self.traffic.mark(), time.monotonic() + AWAY_S
        await self.traffic.until_answered(MEANWHILE)
        while time.monotonic() < until_s:
            await asyncio.sleep(0.05)  # the outage itself has a length
        self.traffic.check_nobody_waited(since)
        return since

    async def check_nothing_comes_through(self) -> None:
        """The fault is one: hardly anything of what was answered meanwhile is stored."""
        stored = await asyncio.to_thread(self.stored)
        assert len(self.traffic.answered) - stored > MEANWHILE / 2

    def log_of(self, part: str) -> str:
        return (self.directory / "logs" / f"{part}.log").read_text()

    def has_said(self, part: str, line: str) -> bool:
        return re.search(line, self.log_of(part)) is not None

    def check_said(self, part: str, line: str) -> None:
        log = self.log_of(part)
        assert re.search(line, log), f"nothing like {line!r} in the log of the {part}:\n{log}"

    async def check_every_row_once(self) -> None:
        """What was answered is there, once, and counts and sums stand for it."""
        answered = self.traffic.answered.keys()
        await self.until(lambda: self.stored() >= len(answered))
        await self.until(self._is_counted)
        found = [row[0] for row in self.query("SELECT request_id FROM query_features")]
        assert sorted(found) == sorted(answered)
        assert self.query("SELECT count() FROM dead_letters") == [(0,)]

    async def until(self, holds: Any) -> None:
        """What a long outage left is as much again to deliver."""
        deadline_s = time.monotonic() + 60 + 3 * AWAY_S
        while not await asyncio.to_thread(holds):
            assert time.monotonic() < deadline_s, "waited too long"
            await asyncio.sleep(0.2)

    def _is_counted(self) -> bool:
        (counts,) = self.query(
            "SELECT (SELECT count() FROM query_features), (SELECT sum(rows) FROM second_counts), "
            "(SELECT sum(arraySum(mapValues(latency_bins))) FROM second_counts), "
            "(SELECT sum(arraySum(mapValues(answer_chars_bins))) FROM second_counts), "
            "(SELECT sum(rows) FROM embedding_sums), (SELECT sum(texts) FROM embedding_sums)"
        )
        return len(set(counts)) == 1

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        settings = self.stack.clickhouse
        with contextlib.closing(
            clickhouse_connect.get_client(
                host=settings.host, port=settings.port, database=settings.database,
                autogenerate_session_id=False,
            )
        ) as client:  # fmt: skip
            return [tuple(row) for row in client.query(sql).result_rows]

    def signal(self, part: str, number: signal.Signals) -> None:
        os.kill(self.stack.process(part).pid, number)


@contextlib.asynccontextmanager
async def running(stack: Stack, url: str, load: Any) -> AsyncIterator[Pipeline]:
    """A whole pipeline under load; it ends with its clients."""
    route = {
        "name": "rag",
        "match": {"prefix": "/"},
        "stable": {"version": "1", "endpoints": [url]},
    }
    await asyncio.to_thread(stack.start_clickhouse)
    await asyncio.to_thread(stack.start_gateway, [route])
    await asyncio.to_thread(stack.start_recorder)
    async with load(stack.addresses["gateway"], beside=url) as traffic:
        pipeline = Pipeline(stack, traffic)
        await pipeline.until(lambda: pipeline.stored() >= MEANWHILE / 2)
        yield pipeline


AWAY = r"the feature store is away, records stay in the spool: .*ClickHouse at 127.0.0.1:\d+"
SLOW = r"the feature store is slow: an insert took \d+\.\d s"
BACK = r"the feature store takes records again, after \d+ attempts"


async def test_clickhouse_that_is_killed_and_away(
    stack: Stack, upstreams: tuple[Any, Any], load: Any
) -> None:
    async with running(stack, upstreams[0].url, load) as pipeline:
        await asyncio.to_thread(stack.kill, "clickhouse")
        await pipeline.go_on_answering()
        await asyncio.to_thread(stack.start_clickhouse)
    await pipeline.check_every_row_once()
    pipeline.check_said("recorder", AWAY)
    pipeline.check_said("recorder", BACK)


async def test_clickhouse_that_stalls(stack: Stack, upstreams: tuple[Any, Any], load: Any) -> None:
    async with running(stack, upstreams[0].url, load) as pipeline:
        pipeline.signal("clickhouse", signal.SIGSTOP)
        await pipeline.go_on_answering()
        pipeline.signal("clickhouse", signal.SIGCONT)
    await pipeline.check_every_row_once()
    pipeline.check_said("recorder", rf"{SLOW}|{AWAY}")


async def test_clickhouse_that_is_slow(stack: Stack, upstreams: tuple[Any, Any], load: Any) -> None:
    """It runs a fiftieth of the time, so that an insert takes one or two seconds."""
    async with running(stack, upstreams[0].url, load) as pipeline:
        answering = asyncio.create_task(pipeline.go_on_answering(), name="go on answering")
        async with asyncio.timeout(60 + 3 * AWAY_S):
            while not (answering.done() and pipeline.has_said("recorder", SLOW)):
                pipeline.signal("clickhouse", signal.SIGSTOP)
                await asyncio.sleep(0.98)
                pipeline.signal("clickhouse", signal.SIGCONT)
                await asyncio.sleep(0.02)
        await answering
    await pipeline.check_every_row_once()


@pytest.mark.parametrize(
    ("fault", "mended", "said"),
    [
        (
            "ALTER TABLE query_features RENAME COLUMN finish_reason TO was_finish_reason",
            "ALTER TABLE query_features RENAME COLUMN was_finish_reason TO finish_reason",
            "finish_reason",
        ),
        (
            "RENAME TABLE second_count_batches TO elsewhere",
            "RENAME TABLE elsewhere TO second_count_batches",
            "second_count_batches",
        ),
    ],
    ids=["a column is gone", "a view's table is gone"],
)
async def test_clickhouse_that_refuses(
    stack: Stack, upstreams: tuple[Any, Any], load: Any, fault: str, mended: str, said: str
) -> None:
    """A schema that does not fit is no fault of the rows: they wait, and none is given up."""
    async with running(stack, upstreams[0].url, load) as pipeline:
        await asyncio.to_thread(pipeline.query, fault)
        await pipeline.go_on_answering()
        await pipeline.check_nothing_comes_through()
        await asyncio.to_thread(pipeline.query, mended)
    await pipeline.check_every_row_once()
    pipeline.check_said("recorder", f"{AWAY}.*{said}")
    pipeline.check_said("recorder", BACK)


@contextlib.contextmanager
def small_disk(where: Path, size: int) -> Iterator[None]:
    """A file system of its own in memory, which takes root."""
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(where)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"cannot mount a small file system here: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


def fill_up(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 65_536)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Where the engine's files are."""
    with small_disk(tmp_path / "disk", DISK_BYTES):
        (tmp_path / "disk" / "db").mkdir()
        (tmp_path / "clickhouse").symlink_to(tmp_path / "disk" / "db")
        yield tmp_path / "disk"


async def test_clickhouse_whose_disk_is_full(
    disk: Path, stack: Stack, upstreams: tuple[Any, Any], load: Any
) -> None:
    async with running(stack, upstreams[0].url, load) as pipeline:
        fill_up(disk / "filler")
        await pipeline.go_on_answering()
        await pipeline.check_nothing_comes_through()
        (disk / "filler").unlink()
    await pipeline.check_every_row_once()
    pipeline.check_said("recorder", f"{AWAY}.*NOT_ENOUGH_SPACE")
    pipeline.check_said("recorder", BACK)
    await asyncio.to_thread(stack.stop)  # before its disk goes


@pytest.fixture
def spool_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "spool", SPOOL_DISK_BYTES):
        yield tmp_path / "spool"


async def test_a_spool_whose_disk_is_full(
    spool_disk: Path, stack: Stack, upstreams: tuple[Any, Any], load: Any
) -> None:
    """Clients notice nothing, and each answer is stored once or counted as dropped."""
    async with running(stack, upstreams[0].url, load) as pipeline:
        await asyncio.to_thread(stack.kill, "recorder")
        fill_up(spool_disk / "filler")
        upstreams[0].answer_text = LONG_ANSWER
        since = await pipeline.go_on_answering()
        while await _dropped(stack) < MEANWHILE / 2:
            await asyncio.sleep(0.05)
        upstreams[0].answer_text = "forty-two"
        (spool_disk / "filler").unlink()
        await asyncio.to_thread(stack.start_recorder)
        await pipeline.traffic.until_answered(MEANWHILE)
    pipeline.traffic.check_nobody_waited(since)
    pipeline.signal("gateway", signal.SIGTERM)
    await pipeline.until(lambda: not workers_of(spool_disk))

    found = [row[0] for row in pipeline.query("SELECT request_id FROM query_features")]
    ((answered, reasons),) = pipeline.query(
        "SELECT sum(arraySum(answered)), sumMap(arrayReduce('sumMap', dropped)) FROM tallies FINAL"
    )
    assert len(found) == len(set(found))
    assert set(found) <= pipeline.traffic.answered.keys()
    assert answered == len(pipeline.traffic.answered)
    assert set(reasons) <= {"disk_full", "not_ready"}
    assert sum(reasons.values()) == answered - len(found) > 0
    assert pipeline.query("SELECT sum(rows) FROM second_counts") == [(len(found),)]
    ((completeness,),) = pipeline.query("SELECT sum(stored) / sum(answered) FROM log_completeness")
    assert completeness == len(found) / answered < 1
    pipeline.check_said("gateway", r"no segment for worker 0-\w+: .*No space left")
    await asyncio.to_thread(stack.stop)


async def _dropped(stack: Stack) -> float:
    """By the gateway's own count."""
    token = stack.secrets["GATEWAY_VIEWER_TOKEN"]
    async with (
        aiohttp.ClientSession(headers={"authorization": f"Bearer {token}"}) as session,
        session.get(f"{stack.addresses['admin']}/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    drops = [line for line in lines if line.startswith("gateway_spool_dropped_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in drops)
