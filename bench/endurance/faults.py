"""What `make chaos` does to a running world. Each fault mends what it broke before it returns."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

from bench.endurance.world import World, step_to
from gateway.recorder.cursor import load as load_cursor
from gateway.spool import segments
from gateway.spool.format import FRAME, RecordType, decode_exchange
from gateway.spool.reader import WorkerReader

AWAY_S = 1.0
"""Between the end of what was killed and its next start."""
STOPPED_S = 4.0
CLOCK_STEP_S = 10
"""Forward, and after `STOPPED_S` back again."""
LOST_S = 2.0
"""How long a version's port is closed."""
DAMAGE_TRIES = 20

Fault = Callable[[World], Awaitable[None]]


class Impossible(RuntimeError):
    """This machine lacks what the fault needs; the message says what."""


async def _killed(world: World, part: str, start: Callable[[], str]) -> None:
    await asyncio.to_thread(world.stack.kill, part)
    await asyncio.sleep(AWAY_S)
    await asyncio.to_thread(start)


async def kill_recorder(world: World) -> None:
    await _killed(world, "recorder", world.start_recorder)


async def kill_agent(world: World) -> None:
    await _killed(world, "agent", world.stack.start_agent)


async def kill_clickhouse(world: World) -> None:
    await _killed(world, "clickhouse", world.start_clickhouse)


async def kill_worker(world: World) -> None:
    """What it had under way is lost to its clients; they are counted as broken."""
    world.killed_s.append(monotonic())
    os.kill(world.pids("worker")[0], signal.SIGKILL)


async def reload_gateway(world: World) -> None:
    os.kill(world.pids("gateway")[0], signal.SIGHUP)


async def upgrade_gateway(world: World) -> None:
    """Another process takes over the ports, plans and spool of the one that runs."""
    await world.upgrade_gateway()


async def slow_version(world: World) -> None:
    version = world.stable
    version.delay_s = 0.2
    await asyncio.sleep(STOPPED_S)
    version.delay_s = 0.002


async def lose_version(world: World) -> None:
    """Nobody listens where stable's only endpoint was: then there is no healthy upstream.

    From the moment that somebody listens again, requests are to be answered.
    """
    version = world.stable
    world.traffic.has_upstream = False
    await version.stop()
    await asyncio.sleep(LOST_S)
    await version.start()
    world.traffic.has_upstream = True


def stopped(part: str) -> Fault:
    async def act(world: World) -> None:
        pids = world.pids(part)[:1]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(STOPPED_S)
        for pid in pids:
            with suppress(ProcessLookupError):  # it was replaced, because it hung
                os.kill(pid, signal.SIGCONT)

    act.__name__ = f"stop_{part}"
    return act


async def step_clock(world: World) -> None:
    """The time of day of gateway, recorder and agent leaps ahead, and back."""
    if world.clock is None:
        raise Impossible("there is no C compiler for a clock that can be set")
    step_to(world.clock, CLOCK_STEP_S)
    await asyncio.sleep(STOPPED_S)
    step_to(world.clock, 0)


async def fill_disk(world: World) -> None:
    """Somebody else takes what is left of the disk that the spool is on."""
    if not world.has_small_disk:
        raise Impossible("a file system can only be mounted by root")
    filler = world.spool / "somebody-else"
    left = os.statvfs(world.spool)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, left.f_bavail * left.f_frsize))
    await asyncio.sleep(STOPPED_S)
    filler.unlink()


async def damage_segment(world: World) -> None:
    """A byte changes in a record that the recorder has not read yet."""
    pid = world.pids("recorder")[0]
    os.kill(pid, signal.SIGSTOP)
    readers = [_at_the_end(world.spool, worker) for worker in segments.workers_of(world.spool)]
    try:
        for _ in range(DAMAGE_TRIES):
            await asyncio.sleep(0.1)
            for reader in readers:
                if request_id := _damage(world.spool, reader):
                    world.damaged.add(request_id)
                    return
        raise Impossible("nothing was recorded meanwhile")
    finally:
        for reader in readers:
            reader.close()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _at_the_end(spool: Path, worker: str) -> WorkerReader:
    """A reader of our own that has read what there is of a worker's records."""
    reader = WorkerReader(spool, worker, load_cursor(spool / worker / "cursor").done)
    while reader.read(1_000, final=False):
        continue
    return reader


def _damage(spool: Path, reader: WorkerReader) -> str:
    """Change a byte of the next exchange; the id of its request, nothing if there is none yet."""
    for record in reader.read(1_000, final=False):
        frame = record.frame
        if frame.kind != RecordType.EXCHANGE:
            continue
        middle = len(frame.body) // 2
        with segments.segment_path(spool / reader.worker, record.segment).open("r+b") as file:
            file.seek(frame.offset + FRAME.size + middle)
            file.write(bytes([frame.body[middle] ^ 0xFF]))
        return decode_exchange(frame.body).request_id.decode()
    return ""


FAULTS: tuple[Fault, ...] = (
    kill_recorder,
    kill_agent,
    kill_clickhouse,
    kill_worker,
    reload_gateway,
    upgrade_gateway,
    slow_version,
    lose_version,
    step_clock,
    fill_disk,
    damage_segment,
    stopped("recorder"),
    stopped("agent"),
    stopped("clickhouse"),
    stopped("gateway"),
)
