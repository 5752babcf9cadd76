"""A stack under traffic, what its processes use, and whether every answer is in the log."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from bench.endurance.traffic import Traffic, Version
from mlops.feature_store.connection import open_client
from mlops.local.stack import ANY_PORTS, Stack

PARTS = ("gateway", "worker", "recorder", "agent", "clickhouse")
STORED_WITHIN_S = 60.0
"""Longest wait at the end for the last rows."""
WORKERS = 2
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

    def pids(self, part: str) -> list[int]:
        """Processes of a part, as they are now."""
        if part == "worker":
            gateway = self.stack.process("gateway").pid
            children = Path(f"/proc/{gateway}/task/{gateway}/children").read_text(encoding="ascii")
            return [int(pid) for pid in children.split()]
        return [self.stack.process(part).pid]

    def use(self) -> dict[str, Use]:
        return {part: _use(self.pids(part)) for part in PARTS}

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """The agent's API."""
        token = self.stack.secrets["AGENT_OPERATOR_TOKEN"]
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, f"{self.stack.addresses['agent']}{path}", json=body) as answer,
        ):
            return await answer.json()

    async def stored(self) -> tuple[int, int, int]:
        """Of the answered requests: how many have a row, how many rows are doubles, and drops."""
        settings = self.stack.clickhouse
        client = await open_client(settings, database=settings.database)
        try:
            wanted = self.traffic.answered
            loop = asyncio.get_running_loop()
            ends_s = loop.time() + STORED_WITHIN_S
            while True:
                found = await client.query("SELECT request_id FROM query_features")
                ids = [row[0] for row in found.result_rows]
                have = len(wanted & set(ids))
                if have == len(wanted) or loop.time() > ends_s:
                    break
                await asyncio.sleep(0.5)
            dropped = await client.query(DROPPED)
            return have, len(ids) - len(set(ids)), int(dropped.result_rows[0][0] or 0)
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


@asynccontextmanager
async def world(rate_per_s: float, seed: int) -> AsyncIterator[World]:
    """Start everything, send traffic, and end everything."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    stable, canary = Version("1"), Version("2")
    with TemporaryDirectory(prefix="endurance-") as name:
        stack = Stack(directory=Path(name), ports=ANY_PORTS, environ=os.environ)
        try:
            for version in (stable, canary):
                await version.start()
            route = {
                "name": "rag",
                "match": {"prefix": "/"},
                "stable": {"version": "1", "endpoints": [stable.url]},
                "sticky": {"header": "x-user-id"},
            }
            await asyncio.to_thread(stack.start_clickhouse)
            await asyncio.to_thread(stack.start_gateway, [route], WORKERS)
            await asyncio.to_thread(stack.start_recorder)
            await asyncio.to_thread(stack.start_agent)
            async with Traffic(stack.addresses["gateway"], rate_per_s, seed) as traffic:
                yield World(stack, stable, canary, traffic)
        finally:
            await asyncio.to_thread(stack.stop)
            for version in (stable, canary):
                await version.stop()
