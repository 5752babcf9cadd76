"""A gateway as a process of its own, and versions behind it, for tests that kill and signal it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from mlops.contracts.api import RouteStatus
from mlops.contracts.plan import RoutePlan, Slot

START_S = 20.0
"""Far above the 2 s that a start may take, for a machine that is busy."""
DEADLINE_S = 15.0
OPERATOR = "op-3f9c"
READY = re.compile(r"ready (\S+) admin (https?://\S+)\n")


def workers_under(supervisor: int) -> list[int]:
    """The process ids of a gateway's workers."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text(encoding="ascii")
    return [int(pid) for pid in children.split()]


class Gateway:
    """One process on free ports, and the file, state and spool that outlive it."""

    def __init__(self, directory: Path, session: aiohttp.ClientSession) -> None:
        self.file = directory / "gateway.yaml"
        self.state = directory / "state"
        self.spool = directory / "spool"
        self.log = directory / "gateway.log"
        self.url = ""
        self.admin = ""
        self._out = directory / f"out-{uuid.uuid4().hex}"
        self.session = session
        self._process: asyncio.subprocess.Process | None = None

    def write_file(self, *routes: dict[str, Any], **more: Any) -> None:
        content = {
            "listen": "127.0.0.1:0",
            "admin": {"listen": "127.0.0.1:0", "tokens": {"operator": {"env": "OPERATOR"}}},
            "state": str(self.state),
            "spool": {"dir": str(self.spool), "limit": "64MiB"},
            "routes": routes,
            **more,
        }
        self.file.write_bytes(msgspec.json.encode(content))

    async def start(self, *options: str, descriptors: int | None = None) -> None:
        """Start and wait for the line on stdout; fails with the log if it ends instead."""
        command = ("-W", "ignore::SyntaxWarning", "-m", "gateway", "--config", str(self.file))
        program = [sys.executable]
        if descriptors is not None:
            program = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *program]
        # A file, not a pipe: a worker or a successor that lives on would keep that open.
        with self.log.open("ab") as log, self._out.open("wb") as out:
            self._process = await asyncio.create_subprocess_exec(
                *(*program, *command, *options),
                stdout=out,
                stderr=log,
                env={**os.environ, "OPERATOR": OPERATOR},
            )
        async with asyncio.timeout(START_S):
            while not (line := self._out.read_text()).endswith("\n") and self.runs:
                await asyncio.sleep(0.01)
        ready = READY.fullmatch(line)
        assert ready, f"{line!r}; its log: {self.log.read_text()}"
        self.url, self.admin = ready[1], ready[2]

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; the exit code."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        return await self.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self) -> int:
        assert self._process is not None
        async with asyncio.timeout(DEADLINE_S):
            return await self._process.wait()

    async def end_whatever_runs(self) -> None:
        """This process, and one that took over from it."""
        if self.runs:
            await self.end(signal.SIGKILL)
        lock = self.state / "lock"
        pid = int(lock.read_text() or 0) if lock.exists() else 0
        command = Path(f"/proc/{pid}/cmdline")
        if pid and command.exists() and str(self.file).encode() in command.read_bytes():
            os.kill(pid, signal.SIGKILL)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def workers(self) -> list[int]:
        """Processes that serve, by pid."""
        return workers_under(self.pid)

    async def until_refused(self) -> None:
        """Wait until nobody listens on the data port."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection(host, int(port))
                except OSError:
                    return
                writer.close()
                await asyncio.sleep(0.02)

    async def until_log(self, text: str) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while text not in self.log.read_text(encoding="utf-8"):
                await asyncio.sleep(0.02)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def status(self) -> RouteStatus:
        _, body = await self.ask("GET", "/v1/routes/rag")
        return msgspec.json.decode(body, type=RouteStatus)

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        data = b"" if body is None else msgspec.json.encode(body)
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        async with self.session.request(
            method, f"{self.admin}{path}", data=data, headers=headers
        ) as answer:
            return answer.status, await answer.read()

    async def done(self, method: str, path: str, body: object = None) -> None:
        """`ask` for what must succeed."""
        status, answer = await self.ask(method, path, body)
        assert status == 200, answer

    async def versions(self, count: int = 60) -> set[str]:
        """Which versions answered `count` requests of as many users."""
        answers = await asyncio.gather(*(self._version(f"user-{i}") for i in range(count)))
        return set(answers)

    async def _version(self, user: str) -> str:
        async with self.session.get(f"{self.url}/query", headers={"x-user-id": user}) as answer:
            assert answer.status == 200
            version = await answer.text()
            assert answer.headers["x-served-by"].endswith(f";{version}")
            return version

    async def until(self, holds: Callable[[RouteStatus], bool]) -> RouteStatus:
        """Poll the admin API until the route's status is as expected."""
        async with asyncio.timeout(DEADLINE_S):
            while not holds(status := await self.status()):
                await asyncio.sleep(0.02)
        return status


class Hammer:
    """Clients that ask again at once, each on its kept connection, until stopped.

    They do what HTTP asks of them and no more: a connection is given up where the answer says so.
    Anything but a whole answer of status 200 counts as failed.
    """

    def __init__(self, url: str, connections: int = 16) -> None:
        self.answered: dict[str, int] = {}
        """By what the body says."""
        self.failed: list[str] = []
        self._url = url
        self._expected: str | None = None
        self._stopping = False
        self._clients = connections
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Hammer:
        self._tasks = [asyncio.create_task(self._client(i)) for i in range(self._clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    @property
    def count(self) -> int:
        return sum(self.answered.values())

    def expect(self, body: str | None) -> None:
        """Whatever is asked from now on, and answered before this is called again, fails unless it
        is answered with this."""
        self._expected = body

    async def until_answered(self, more: int) -> None:
        """Wait for so many further answers."""
        due = self.count + more
        async with asyncio.timeout(DEADLINE_S):
            while self.count < due:
                await asyncio.sleep(0.005)

    async def _client(self, number: int) -> None:
        request = f"GET /query HTTP/1.1\r\nhost: x\r\nx-user-id: user-{number}\r\n\r\n".encode()
        streams = None
        while not self._stopping:
            try:
                async with asyncio.timeout(DEADLINE_S):
                    streams = streams or await self._connect()
                    keep = await self._ask(*streams, request)
            except (OSError, asyncio.IncompleteReadError, ValueError) as exc:
                self.failed.append(repr(exc))
                keep = False
            if not keep and streams is not None:
                streams[1].close()
                streams = None
        if streams is not None:
            streams[1].close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._url.startswith("unix:"):
            return await asyncio.open_unix_connection(self._url.removeprefix("unix:"))
        host, _, port = self._url.removeprefix("http://").rpartition(":")
        return await asyncio.open_connection(host, int(port))

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> bool:
        expected = self._expected
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = re.search(r"content-length: (\d+)", head)
        if not head.startswith("http/1.1 200") or length is None:
            raise ValueError(head)
        body = (await reader.readexactly(int(length[1]))).decode()
        if expected is not None and expected == self._expected != body:
            raise ValueError(f"expected {expected}, got {body}")
        self.answered[body] = self.answered.get(body, 0) + 1
        return "connection: close" not in head


class Stream:
    """A client that reads an event stream, and keeps its connection open afterwards."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> Stream:
        host, _, port = url.removeprefix("http://").rpartition(":")
        made = cls(*await asyncio.open_connection(host, int(port)))
        made._writer.write(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n")
        await made._until(b"data: first\n\n")
        return made

    async def finish(self) -> None:
        """Read to the last chunk."""
        await self._until(b"data: last\n\n")
        await self._until(b"\r\n0\r\n\r\n")

    async def _until(self, text: bytes) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self._reader.readuntil(text)

    def close(self) -> None:
        self._writer.close()


class Servers:
    """Versions A and B, each answering its name."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.waiting = 0
        """Requests that have arrived and may not be answered yet."""
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.slots: dict[str, Slot] = {}

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """The first event at once, the last when it may."""
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await self.may_answer.wait()
        await response.write(b"data: last\n\n")
        return response

    async def _take(self, request: web.Request) -> web.Response:
        """How long the body was."""
        taken = 0
        async for piece in request.content.iter_any():
            taken += len(piece)
        return web.Response(text=str(taken))

    async def serve(self, version: str) -> web.AppRunner:
        async def answer(_: web.Request) -> web.Response:
            self.asked.set()
            self.waiting += 1
            await self.may_answer.wait()
            self.waiting -= 1
            return web.Response(text=version)

        app = web.Application()
        app.router.add_get("/query", answer)
        app.router.add_post("/query", self._take)
        app.router.add_get("/stream", self._stream)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.slots[version] = Slot(version=version, endpoints=(f"http://{host}:{port}",))
        return runner


def route(servers: Servers, **more: Any) -> dict[str, Any]:
    stable = msgspec.to_builtins(servers.slots["A"])
    return {
        "name": "rag",
        "match": {"prefix": "/"},
        "stable": stable,
        "sticky": {"header": "x-user-id"},
        **more,
    }


def plan(servers: Servers, generation: int, *, lease_s: float | None = None) -> RoutePlan:
    return RoutePlan(
        route="rag",
        generation=generation,
        salt="release-1",
        stable=servers.slots["A"],
        canary=servers.slots["B"],
        canary_share_bp=5000,
        lease_s=lease_s,
    )


async def failed_start(gateway: Gateway, *options: str) -> int:
    """Start what cannot; its exit code."""
    with pytest.raises(AssertionError):
        await gateway.start(*options)
    return await gateway.wait()
