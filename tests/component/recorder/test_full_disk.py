"""A file system with no room left: records are dropped and counted, nothing dies, nothing sticks.

On a small file system of its own in memory, which takes root; elsewhere these are skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.recorder.reserve import RESERVE_NAME
from gateway.spool import segments

DISK_BYTES = 8 * 1024**2
WAIT_S = 20.0

WRITER = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, "tests/process")
from spool_worker import _record
from gateway.settings import SpoolSettings
from gateway.spool.writer import SpoolWriter

writer = SpoolWriter.open(SpoolSettings(dir=Path(sys.argv[1]), limit_bytes=1 << 30))
record, taken = _record(), []

def offer(until):
    number = len(taken)
    while not until():
        record.request_id = b"%d" % number
        record.started_at_us = record.ended_at_us = time.time_ns() // 1000
        if writer.offer(record):
            taken.append(number)
        else:
            time.sleep(0.0005)
        number += 1

offer(lambda: writer.dropped.get("disk_full", 0) >= 50)
print(json.dumps({"worker": writer.worker, "taken": len(taken)}), flush=True)
assert sys.stdin.readline()
before = len(taken)
offer(lambda: len(taken) >= before + 500)
writer.close()
print(json.dumps({"taken": taken, "dropped": writer.dropped}), flush=True)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(where)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"cannot mount a small file system here: {made.stderr.strip()}")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


class Writer:
    """The script above in a process of its own, which a signal would end alone."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def said(self) -> Any:
        assert self.process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            line = await self.process.stdout.readline()
            assert line, f"the writer ended with {await self.process.wait()}"
        return json.loads(line)

    async def last_words(self) -> Any:
        """Go on, to the end."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"go on\n")
        said = await self.said()
        async with asyncio.timeout(WAIT_S):
            assert await self.process.wait() == 0
        return said


@pytest.fixture
async def writer(disk: Path) -> AsyncIterator[Writer]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(disk / "spool"), stdin=pipe, stdout=pipe, limit=1 << 24
    )
    yield Writer(process)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def fill_up(path: Path) -> None:
    """To the last page."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


async def test_a_spool_that_fills_the_disk_drops_and_goes_on_when_there_is_room(
    harness: Any, disk: Path, writer: Writer
) -> None:
    """The recorder needs room of its own to free any, and has it in reserve."""
    harness.spool = disk / "spool"
    harness.spool.mkdir(mode=0o700)
    async with harness.recording():
        assert (harness.spool / RESERVE_NAME).exists()
        harness.log.away_before = 10**9
        full = await writer.said()
        fill_up(disk / "ballast")
        harness.log.away_before = 0
        last = await writer.last_words()
        await harness.until(lambda: not (harness.spool / full["worker"]).exists())
    assert set(last["dropped"]) <= {"disk_full", "not_ready"}
    assert last["dropped"]["disk_full"] >= 50
    stored = harness.log.request_ids()
    assert sorted(map(int, stored)) == last["taken"], "each one taken is stored, and once"


async def test_a_disk_that_others_fill_kills_no_writer(
    harness: Any, disk: Path, writer: Writer
) -> None:
    """Segments are allocated whole, so none of them meets the end of the disk half written."""
    harness.spool = disk / "spool"
    full = await writer.said()
    taken = full["taken"]
    assert taken * 2_000 > DISK_BYTES / 2, "most of the disk was of use"
    for number in segments.segments_of(harness.spool / full["worker"]):
        path = segments.segment_path(harness.spool / full["worker"], number)
        assert path.stat().st_blocks * 512 == path.stat().st_size
    async with harness.recording():
        last = await writer.last_words()
        await harness.until(lambda: len(harness.log.request_ids()) == len(last["taken"]))
    assert sorted(map(int, harness.log.request_ids())) == last["taken"]
