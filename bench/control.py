"""What changing a running gateway costs: plans, reloads, killed workers, upgrades; under load.

One gateway with two workers, 64 kept connections that together ask a thousand times a second, an
upstream that answers its version. Everything is seen from outside: by which version answers, and by
what fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import uvloop

from bench.report import Measured, write

CONNECTIONS = 64
RATE_PER_S = 1000
PLANS = 40
RELOADS = 20
KILLS = 5
UPGRADES = 5
SETTLE_S = 0.3
"""Load between two changes."""
HEAD_END = b"\r\n\r\n"
READY = re.compile(r"ready http://\S+:(\d+) admin (http://\S+)\n")


@dataclass
class Seen:
    """What clients saw: when each answered request was sent, and which version answered."""

    answers: list[tuple[float, str]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Load:
    """Clients that each ask in their turn, on a kept connection."""

    def __init__(self, port: int) -> None:
        self.seen = Seen()
        self._port = port
        self._stopping = False
        self._tasks = [asyncio.ensure_future(self._client(i)) for i in range(CONNECTIONS)]

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _client(self, number: int) -> None:
        request = f"GET / HTTP/1.1\r\nhost: x\r\nx-user-id: {number}\r\n\r\n".encode()
        streams = None
        every_s = CONNECTIONS / RATE_PER_S
        next_s = time.monotonic() + number / RATE_PER_S
        while not self._stopping:
            await asyncio.sleep(next_s - time.monotonic())
            next_s = max(next_s + every_s, time.monotonic())
            try:
                if streams is not None and streams[0].at_eof():  # closed while nothing was asked
                    streams[1].close()
                    streams = None
                streams = streams or await asyncio.open_connection("127.0.0.1", self._port)
                keeps = await self._ask(*streams, request)
            except (OSError, asyncio.IncompleteReadError, ValueError) as exc:
                self.seen.failed.append(repr(exc))
                keeps = False
            if not keeps and streams is not None:
                streams[1].close()
                streams = None
        if streams is not None:
            streams[1].close()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> bool:
        sent_s = time.monotonic()
        writer.write(request)
        head = await reader.readuntil(HEAD_END)
        if not head.startswith(b"HTTP/1.1 200"):
            raise ValueError(head[:60])
        self.seen.answers.append((sent_s, (await reader.readexactly(1)).decode()))
        return b"onnection: close" not in head


async def answer_with(name: bytes) -> asyncio.Server:
    """An upstream that answers one letter."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(HEAD_END):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n" + name)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


class Bench:
    """The gateway's process, its successors, and the load on them."""

    def __init__(self, directory: Path, session: aiohttp.ClientSession) -> None:
        self._directory = directory
        self._session = session
        self._file = directory / "gateway.yaml"
        self._endpoints: dict[str, str] = {}
        self._generation = 1
        self._process: asyncio.subprocess.Process
        self._admin = ""
        self._load: Load

    async def run(self) -> list[Measured]:
        servers = [await answer_with(name) for name in (b"A", b"B")]
        for name, server in zip("AB", servers, strict=True):
            self._endpoints[name] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._write_file("x-user-id")
        start_s = await self._start()
        self._load = Load(self._port)
        try:
            await self._put_plan()
            rows = [
                Measured(
                    name="start to ready, 2 workers",
                    value=start_s,
                    unit="s",
                    goal="<= 2",
                    holds=start_s <= 2,
                ),
                *await self._plans(),
                await self._failures("reload", RELOADS, self._reload),
                *await self._upgrades(),
                await self._memory(),
                *await self._kills(),
            ]
        finally:
            await self._load.stop()
            self._process.send_signal(signal.SIGTERM)
            await self._process.wait()
            for server in servers:
                server.close()
        return rows

    # ---- figures -------------------------------------------------------------------------------

    async def _plans(self) -> list[Measured]:
        """From when a plan is sent to when the last request is sent that goes the old way."""
        until_everywhere_ms, until_answered_ms, late = [], [], 0
        for _ in range(PLANS):
            begun_s = time.monotonic()
            new = await self._put_plan()
            answered_s = time.monotonic()
            await asyncio.sleep(SETTLE_S)
            old_way = [sent for sent, name in self._load.seen.answers if name != new]
            last_s = max((sent for sent in old_way if sent >= begun_s), default=begun_s)
            until_everywhere_ms.append((last_s - begun_s) * 1e3)
            until_answered_ms.append((answered_s - begun_s) * 1e3)
            late += last_s > answered_s
            self._load.seen.answers.clear()
        worst = max(until_everywhere_ms)
        return [
            Measured(
                name="plan in force in both workers, longest of 40",
                value=worst,
                unit="ms",
                goal="must <= 50",
                holds=worst <= 50,
            ),
            Measured(name="the same, median", value=median(until_everywhere_ms), unit="ms"),
            Measured(
                name="plan answered, median (stored on disk)",
                value=median(until_answered_ms),
                unit="ms",
            ),
            Measured(
                name="plans answered before they were in force everywhere",
                value=late,
                unit="",
                goal="must be 0",
                holds=late == 0,
            ),
        ]

    async def _failures(
        self, name: str, times: int, change: Callable[[], Awaitable[object]]
    ) -> Measured:
        before = len(self._load.seen.failed)
        for _ in range(times):
            await change()
            await asyncio.sleep(SETTLE_S)
        failed = len(self._load.seen.failed) - before
        return Measured(
            name=f"requests failed in {times} {name}s",
            value=failed,
            unit="",
            goal="must be 0",
            holds=failed == 0,
        )

    async def _upgrades(self) -> list[Measured]:
        took_s = []

        async def upgrade() -> None:
            before = self._process
            took_s.append(await self._start("--upgrade"))
            await before.wait()

        failures = await self._failures("upgrade", UPGRADES, upgrade)
        return [failures, Measured(name="upgrade, median", value=median(took_s), unit="s")]

    async def _kills(self) -> list[Measured]:
        before, back_ms = len(self._load.seen.failed), []
        for kill in range(KILLS):
            victim = self._workers()[kill % 2]
            begun_s = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            while await self._up() < 2 or victim in self._workers():
                await asyncio.sleep(0.005)
            back_ms.append((time.monotonic() - begun_s) * 1e3)
            await asyncio.sleep(SETTLE_S)
        failed = (len(self._load.seen.failed) - before) / KILLS
        return [
            Measured(
                name="killed worker replaced and serving, median", value=median(back_ms), unit="ms"
            ),
            Measured(
                name="requests failed for each killed worker: those in flight on it",
                value=failed,
                unit="",
            ),
        ]

    async def _memory(self) -> Measured:
        sizes = []
        for pid in self._workers():
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            sizes.append(int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) * 1024 / 1e6)
        return Measured(
            name=f"resident memory of a worker, {CONNECTIONS} connections",
            value=max(sizes),
            unit="MB",
            goal="<= 45",
            holds=max(sizes) <= 45,
        )

    # ---- what is done to it --------------------------------------------------------------------

    async def _start(self, *options: str) -> float:
        begun_s = time.monotonic()
        out = self._directory / f"out-{begun_s}"
        with out.open("wb") as stdout, (self._directory / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "ignore::SyntaxWarning", "-m", "gateway"),
                *("--config", str(self._file), *options),
                stdout=stdout,
                stderr=log,
            )
        while not (line := out.read_text()).endswith("\n"):
            if self._process.returncode is not None:
                raise RuntimeError((self._directory / "log").read_text())
            await asyncio.sleep(0.002)
        took_s = time.monotonic() - begun_s
        ready = READY.fullmatch(line)
        assert ready is not None, line
        self._port, self._admin = int(ready[1]), ready[2]
        return took_s

    def _write_file(self, sticky: str) -> None:
        route = {
            "name": "bench",
            "match": {"prefix": "/"},
            "stable": {"version": "A", "endpoints": [self._endpoints["A"]]},
            "sticky": {"header": sticky},
        }
        content = {
            "listen": "127.0.0.1:0",
            "workers": 2,
            "admin": {"listen": "127.0.0.1:0"},
            "state": str(self._directory / "state"),
            "spool": {"dir": str(self._directory / "spool"), "limit": "2GiB"},
            "routes": [route],
        }
        self._file.write_text(json.dumps(content), encoding="utf-8")

    async def _put_plan(self) -> str:
        """Everything to the other version; its name."""
        self._generation += 1
        name = "AB"[self._generation % 2]
        plan = {
            "route": "bench",
            "generation": self._generation,
            "salt": "s",
            "stable": {"version": name, "endpoints": [self._endpoints[name]]},
        }
        await self._ask("PUT", "/v1/routes/bench/plan", json=plan)
        return name

    async def _reload(self) -> None:
        self._write_file(f"x-user-{time.monotonic_ns()}")
        await self._ask("POST", "/v1/reload")

    async def _up(self) -> int:
        text = await self._ask("GET", "/metrics")
        return len(re.findall(r"^gateway_worker_up\{.*\} 1", text, re.MULTILINE))

    def _workers(self) -> list[int]:
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        return [int(child) for child in children.split()]

    async def _ask(self, method: str, path: str, **more: Any) -> str:
        async with self._session.request(method, f"{self._admin}{path}", **more) as answer:
            text = await answer.text()
            assert answer.status == 200, text
            return text


async def measure() -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="bench-control-") as name:
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            return await Bench(Path(name), session).run()


def main() -> int:
    rows = uvloop.run(measure())
    names = ("uvloop", "httptools", "msgspec", "aiohttp")
    write("control", rows, {name: version(name) for name in names})
    return 0


if __name__ == "__main__":
    sys.exit(main())
