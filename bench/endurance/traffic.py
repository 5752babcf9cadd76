"""Mixed traffic at a constant rate, and the two versions that answer it.

Every request ends as one of: `answered` (whole), `cancelled` (by us, on purpose), or a failure
named by its cause. Nothing is tried again: what fails, failed.
"""

from __future__ import annotations

import asyncio
import uuid
from array import array
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from time import monotonic

import aiohttp
from aiohttp import web

TIMEOUT = aiohttp.ClientTimeout(total=30)
MIB = 1024 * 1024
KINDS = {"short": 0.80, "stream": 0.08, "large": 0.02, "slow": 0.05, "cancel": 0.05}
"""Of requests: JSON; ten events in half a second; a body of 1 MB each way; a client that sends its
body in pieces; one that goes away while it waits."""
MAX_LATENCIES = 10_000_000
"""An hour of 3,000 short requests a second, 160 MB."""
MAX_UNDER_WAY = 512
"""Requests at a time; past this the rate falls, and is told."""
BACKLOG = 2 * MAX_UNDER_WAY
"""Of a version: all that may be under way may come as new connections at once. In a shorter line
the kernel lets some wait for a second, which is as long as a gateway waits for a connection."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without a whole answer."""

    cause: str
    began_s: float
    ended_s: float
    """Monotonic, as its client saw it."""


class Version:
    """One version of a model server; what it does can be changed while it runs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.url = ""
        self.fail_share = 0.0
        self.delay_s = 0.002
        self._port = 0
        self._random = Random(name)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=4 * MIB)
        app.router.add_post("/query", self._answer)
        app.router.add_post("/stream", self._stream)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=BACKLOG).start()
        host, self._port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{self._port}"

    async def stop(self) -> None:
        """Close every connection and the port; started again, it has the same."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.Response:
        body = await _body(request)
        await asyncio.sleep(self.delay_s)
        if self._random.random() < self.fail_share:
            return web.json_response({"error": "asked to fail"}, status=500)
        padding = "x" * len(body) if len(body) > MIB // 2 else ""
        return web.json_response({"answer": "42", "relevance_score": 0.9, "padding": padding})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        await _body(request)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        with suppress(ConnectionError):  # a worker was killed, and the gateway is gone
            for number in range(10):
                await response.write(b'data: {"t": %d}\n\n' % number)
                await asyncio.sleep(0.05)
        return response


async def _body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except ConnectionError as error:  # a worker was killed: nobody will read what we say
        raise web.HTTPBadRequest from error


class Traffic:
    """`async with Traffic(url, rate)`: runs until left."""

    def __init__(self, url: str, rate_per_s: float, seed: int) -> None:
        self.answered: set[str] = set()
        self.cancelled = 0
        self.failures: list[Failure] = []
        """Requests without a whole answer."""
        self.errors: Counter[int] = Counter()
        """Of those answered, statuses of 500 and above."""
        self.has_upstream = True
        self.excused: Counter[str] = Counter()
        """Failures and statuses above 500 while nobody listened upstream; in no other count."""
        self.longest_s = 0.0
        self.latencies_s = array("d")
        """Of short requests, one after another: when it ended (monotonic), and how long it took.
        Not of more than `MAX_LATENCIES`."""
        self.late_s = 0.0
        """How far the rate fell behind, at most."""
        self._url = url
        self._interval_s = 0.0
        self._next_s = 0.0
        self.set_rate(rate_per_s)
        self._random = Random(seed)
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Traffic:
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.finish()

    async def finish(self) -> None:
        """Ask no more, and wait for what is under way. Safe to repeat."""
        self._stopping.set()
        assert self._task is not None
        await self._task

    def set_rate(self, rate_per_s: float) -> None:
        """From now on; infinite: as much as `MAX_UNDER_WAY` requests at a time come to."""
        self._interval_s = 1 / rate_per_s
        self._next_s = monotonic()
        self.late_s = 0.0

    @property
    def asked(self) -> int:
        excused = sum(count for cause, count in self.excused.items() if not cause.isdigit())
        return len(self.answered) + self.cancelled + len(self.failures) + excused

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=MAX_UNDER_WAY)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session,
            asyncio.TaskGroup() as group,
        ):
            slots = asyncio.Semaphore(MAX_UNDER_WAY)
            while not self._stopping.is_set():
                await slots.acquire()
                task = group.create_task(self._one(session))
                task.add_done_callback(lambda _: slots.release())
                self._next_s += self._interval_s
                self.late_s = max(self.late_s, monotonic() - self._next_s)
                await asyncio.sleep(max(0.0, self._next_s - monotonic()))

    async def _one(self, session: aiohttp.ClientSession) -> None:
        kind = self._random.choices(list(KINDS), list(KINDS.values()))[0]
        request_id = uuid.uuid4().hex
        user = f"user-{self._random.randrange(500)}"
        headers = {"x-request-id": request_id, "x-user-id": user}
        began_s, had_upstream = monotonic(), self.has_upstream
        try:
            async with asyncio.timeout(0.001 if kind == "cancel" else None):
                status = await self._ask(session, kind, headers)
        except TimeoutError:
            if kind == "cancel":
                self.cancelled += 1
            else:
                self._failed("no answer in time", began_s, had_upstream=had_upstream)
        except (aiohttp.ClientError, OSError) as error:
            self._failed(type(error).__name__, began_s, had_upstream=had_upstream)
        else:
            self.answered.add(request_id)
            if status > 500 and not (had_upstream and self.has_upstream):
                self.excused[str(status)] += 1
            elif status >= 500:
                self.errors[status] += 1
        took_s = monotonic() - began_s
        self.longest_s = max(self.longest_s, took_s)
        if kind == "short" and len(self.latencies_s) < 2 * MAX_LATENCIES:
            self.latencies_s.extend((monotonic(), took_s))

    def _failed(self, cause: str, began_s: float, *, had_upstream: bool) -> None:
        if had_upstream and self.has_upstream:
            self.failures.append(Failure(cause, began_s, monotonic()))
        else:
            self.excused[cause] += 1

    async def _ask(self, session: aiohttp.ClientSession, kind: str, headers: dict[str, str]) -> int:
        path = "/stream" if kind == "stream" else "/query"
        body: object = b'{"query_text": "what is a lease"}'
        if kind == "large":
            body = b'{"query_text": "%b"}' % (b"x" * MIB)
        elif kind == "slow":
            body = _slowly(b'{"query_text": "what is a lease"}')
        async with session.post(f"{self._url}{path}", data=body, headers=headers) as answer:
            await answer.read()
            return answer.status


async def _slowly(body: bytes) -> AsyncIterator[bytes]:
    """The body in four pieces, a moment apart."""
    for at in range(0, len(body), 10):
        yield body[at : at + 10]
        await asyncio.sleep(0.02)
