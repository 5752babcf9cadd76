"""A stack under traffic, what its processes use, and whether every answer is in the log."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bench.endurance.traffic import Traffic, Version
from mlops.feature_store.connection import open_client
from mlops.local.processes import Command, spawn
from mlops.local.stack import ANY_PORTS, Stack

JUDGED = ("gateway", "worker", "recorder", "agent")
PARTS = (*JUDGED, "clickhouse")
"""The engine is told of, not judged: its caches, threads and files grow with its tables."""
STORED_WITHIN_S = 60.0
"""Longest wait at the end for the last rows."""
WORKERS = 2
WITH_METRICS = ("--metrics-port", "0")
TASKS = {
    "worker": ("admin", "gateway_worker_tasks"),
    "recorder": ("recorder", "recorder_tasks"),
    "agent": ("agent", "agent_tasks"),
}
"""By part: whose metrics say how many tasks it has, and which one."""
DISK_MIB = 256
"""Of the spool's own file system: a minute of this traffic."""
CLOCK_BYTES = 8
CLOCK_SOURCE = Path(__file__).with_name("clock.c")
DROPPED = (
    "SELECT sum(arraySum(arrayMap(each -> arraySum(mapValues(each)), dropped))) FROM tallies FINAL"
)


@dataclass(frozen=True, slots=True)
class Use:
    """What one part uses; its processes together."""

    rss_mib: float
    descriptors: int
    threads: int


class World:
    """The stack, its two versions and the traffic."""

    def __init__(self, stack: Stack, stable: Version, canary: Version, traffic: Traffic) -> None:
        self.stack = stack
        self.stable = stable
        self.canary = canary
        self.traffic = traffic
        self.spool = stack.directory / "spool"
        self.has_small_disk = os.path.ismount(self.spool)
        clock = clock_file(stack.directory)
        self.clock = clock if clock.exists() else None
        """The seconds that it holds are added to the time of day of the parts."""
        self.damaged: set[str] = set()
        """Ids of requests whose records were changed on purpose."""
        self.killed_s: list[float] = []
        """When a worker was killed (monotonic)."""

    def start_clickhouse(self) -> str:
        return _with_true_clock(self.stack, self.stack.start_clickhouse)

    def start_recorder(self) -> str:
        return self.stack.start_recorder(*WITH_METRICS)

    async def upgrade_gateway(self) -> None:
        """Start a process that takes over from the gateway that runs, and wait until that ends."""
        old = self.stack.process("gateway")
        file = str(self.stack.directory / "gateway.yaml")
        arguments = ["gateway", "--config", file, "--upgrade"]
        environment = self.stack.environment()
        command = Command(name="gateway", arguments=arguments, environment=environment)
        started = await asyncio.to_thread(spawn(command, self.stack.directory).ready)
        self.stack.processes[self.stack.processes.index(old)] = started
        with suppress(ChildProcessError):
            await asyncio.to_thread(os.waitpid, old.pid, 0)

    def pids(self, part: str) -> list[int]:
        """Processes of a part, as they are now."""
        if part == "worker":
            gateway = self.stack.process("gateway").pid
            children = Path(f"/proc/{gateway}/task/{gateway}/children").read_text(encoding="ascii")
            return [int(pid) for pid in children.split()]
        return [self.stack.process(part).pid]

    def use(self) -> dict[str, Use]:
        return {part: _use(self.pids(part)) for part in PARTS}

    async def tasks(self) -> dict[str, float]:
        """Of the event loops, by part."""
        found = {}
        async with aiohttp.ClientSession() as session:
            for part, (place, metric) in TASKS.items():
                async with session.get(f"{self.stack.addresses[place]}/metrics") as answer:
                    families = text_string_to_metric_families(await answer.text())
                    value = next(f.samples[0].value for f in families if f.name == metric)
                    found[part] = float(value)
        return found

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """The agent's API."""
        token = self.stack.secrets["AGENT_OPERATOR_TOKEN"]
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, f"{self.stack.addresses['agent']}{path}", json=body) as answer,
        ):
            return await answer.json()

    async def stored(self) -> tuple[set[str], int, int]:
        """Answered requests without a row, how many rows are doubles, and how many were dropped."""
        settings = self.stack.clickhouse
        client = await open_client(settings, database=settings.database)
        try:
            wanted = self.traffic.answered
            loop = asyncio.get_running_loop()
            ends_s = loop.time() + STORED_WITHIN_S
            while True:
                found = await client.query("SELECT request_id FROM query_features")
                ids = [row[0] for row in found.result_rows]
                lacking = wanted.difference(ids)
                dropped = await client.query(DROPPED)
                told = int(dropped.result_rows[0][0] or 0)
                if len(lacking - self.damaged) <= told or loop.time() > ends_s:
                    return lacking, len(ids) - len(set(ids)), told
                await asyncio.sleep(0.5)
        finally:
            await client.close()


def _use(pids: list[int]) -> Use:
    rss_kib = descriptors = threads = 0
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
            descriptors += len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - counted, not used
        except OSError:
            continue  # it has just ended
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        rss_kib += int(fields["VmRSS"].split()[0])
        threads += int(fields["Threads"])
    return Use(rss_kib / 1024, descriptors, threads)


def clock_file(directory: Path) -> Path:
    return directory / "clock"


def _with_true_clock(stack: Stack, start: Callable[[], str]) -> str:
    """The engine stands for another machine, whose clock is right."""
    environ = stack.environ
    stack.environ = {name: value for name, value in environ.items() if name != "LD_PRELOAD"}
    try:
        return start()
    finally:
        stack.environ = environ


def step_to(clock: Path, seconds: int) -> None:
    """In place: the parts have it mapped."""
    with clock.open("r+b") as file:
        file.write(seconds.to_bytes(CLOCK_BYTES, sys.byteorder))


def _environ(directory: Path, *, may_step: bool) -> dict[str, str]:
    """What the parts inherit; where there is a C compiler, a clock of their own."""
    environ = dict(os.environ)
    compiler = shutil.which("cc")
    if may_step and compiler:
        library = str(directory / "clock.so")
        build = [compiler, "-O2", "-shared", "-fPIC", "-o", library, str(CLOCK_SOURCE)]
        subprocess.run(build, check=True)
        clock_file(directory).write_bytes(bytes(CLOCK_BYTES))
        environ |= {"LD_PRELOAD": library, "CLOCK_OFFSET_FILE": str(clock_file(directory))}
    return environ


@contextmanager
def _small_disk(where: Path) -> Iterator[None]:
    """A file system of `DISK_MIB`, where we may mount one; else what is there."""
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "none", str(where)]
    is_mounted = not subprocess.run(mount, capture_output=True, check=False).returncode
    try:
        yield
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(where)], check=True)


@asynccontextmanager
async def world(rate_per_s: float, seed: int, *, may_break: bool = False) -> AsyncIterator[World]:
    """Start everything, send traffic, and end everything.

    With `may_break` the spool has a small disk of its own, and the parts a clock that can be set.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    _cancel_when_asked_to_end()
    stable, canary = Version("1"), Version("2")
    with ExitStack() as held:
        directory = Path(held.enter_context(TemporaryDirectory(prefix="endurance-")))
        if may_break:
            held.enter_context(_small_disk(directory / "spool"))
        environ = _environ(directory, may_step=may_break)
        stack = Stack(directory=directory, ports=ANY_PORTS, environ=environ)
        try:
            for version in (stable, canary):
                await version.start()
            await asyncio.to_thread(_with_true_clock, stack, stack.start_clickhouse)
            await asyncio.to_thread(stack.start_gateway, [_route(stable)], WORKERS)
            await asyncio.to_thread(stack.start_recorder, *WITH_METRICS)
            await asyncio.to_thread(stack.start_agent)
            async with Traffic(stack.addresses["gateway"], rate_per_s, seed) as traffic:
                yield World(stack, stable, canary, traffic)
        finally:
            await asyncio.to_thread(stack.stop)
            for version in (stable, canary):
                await version.stop()


def _cancel_when_asked_to_end() -> None:
    """Without it SIGTERM, and SIGINT where a shell ignored it, would leave the stack running."""
    running = asyncio.current_task()
    assert running is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)


def _route(stable: Version) -> dict[str, object]:
    return {
        "name": "rag",
        "match": {"prefix": "/"},
        "stable": {"version": "1", "endpoints": [stable.url]},
        "sticky": {"header": "x-user-id"},
    }
