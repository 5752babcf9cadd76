"""A real stack for tests that kill parts of it: engine, gateway, recorder, agent as processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import clickhouse_connect
import pytest
from aiohttp import web

from mlops.feature_store.migrations import migrate
from mlops.feature_store.settings import ClickHouseSettings
from mlops.local.stack import ANY_PORTS, Stack
from tests.process.gateway_process import DEADLINE_S, Gateway, Servers
from tests.process.spool_processes import Processes

AT_ONCE_S = {0.5: 0.25, 0.95: 0.75}
"""By quantile: an answer within so long is quick, however quick the upstream is. What waits for a
part that is away waits for seconds; a busy machine may leave a process out for a quarter of one."""
MOST_TIMES = 5
"""An answer may take so many times as long as one before, or as the upstream's own."""
BESIDE_EVERY = 5
"""So many requests through the gateway for each one beside it."""
REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=10)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """An empty stack on free ports; whatever a test starts in it is ended."""
    stack = Stack(directory=tmp_path, ports=ANY_PORTS, environ=os.environ)
    yield stack
    stack.stop()


class Upstream:
    """A model server whose behaviour a test can set while it runs."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.delay_s = 0.0
        self.answer_text = "forty-two"

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        return web.json_response(
            {
                "query_id": body["query_text"],
                "answer": self.answer_text,
                "documents": [{"id": "doc-1", "score": 0.9}],
                "relevance_score": 0.9,
            },
            status=self.status,
        )


async def _serve(upstream: Upstream) -> web.AppRunner:
    app = web.Application()
    app.router.add_post("/query", upstream.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    upstream.url = f"http://{host}:{port}"
    return runner


@pytest.fixture
async def upstreams() -> AsyncIterator[tuple[Upstream, Upstream]]:
    """Two model servers: what stable and what canary point at."""
    pair = (Upstream(), Upstream())
    runners = [await _serve(upstream) for upstream in pair]
    yield pair
    for runner in runners:
        await runner.cleanup()


class Mark(NamedTuple):
    """A moment in a load: how many answers there had been."""

    through: int
    beside: int


class Load:
    """Steady traffic through the gateway, until stopped, at a bounded rate.

    A refused or broken connection is counted and tried no further: only what was answered whole
    is in `answered`. `beside` is the upstream's own address: it gets a few requests meanwhile, for
    how long an answer takes without the gateway on a machine that is as busy.
    """

    def __init__(
        self, url: str, rate_per_s: float = 200.0, users: int = 200, *, beside: str = ""
    ) -> None:
        self.answered: dict[str, tuple[int, str]] = {}
        self.waits_s: list[float] = []
        """How long each answer took its client, in order of the answers."""
        self.beside_s: list[float] = []
        """The same of the requests beside the gateway."""
        self.broken = 0
        self._url = f"{url}/query"
        self._beside_url = f"{beside}/query" if beside else ""
        self._interval_s = 1 / rate_per_s
        self._users = users
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Load:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        assert self._task is not None
        await self._task

    async def until_answered(self, more: int, timeout_s: float = 30.0) -> None:
        """Wait until that many more requests were answered."""
        target = len(self.answered) + more
        async with asyncio.timeout(timeout_s):
            while len(self.answered) < target:
                await asyncio.sleep(0.01)

    def mark(self) -> Mark:
        """How many answers there are by now."""
        return Mark(len(self.waits_s), len(self.beside_s))

    def check_nobody_waited(self, since: Mark) -> None:
        """Every request was answered; after `since` about as soon as before it, or as the upstream
        itself meanwhile.

        Both are of the same client and machine: what is slower for each of them is not the
        gateway's fault. Requests through it and beside it share no connection.
        """
        assert self.broken == 0
        assert {status for status, _ in self.answered.values()} == {200}
        after_s = sorted(self.waits_s[since.through :])
        before_s = sorted(self.waits_s[: since.through])
        beside_s = sorted(self.beside_s[since.beside :])
        for share, quick_s in AT_ONCE_S.items():
            after, before, beside = (_quantile(x, share) for x in (after_s, before_s, beside_s))
            assert after <= max(quick_s, MOST_TIMES * before, MOST_TIMES * beside), (
                f"quantile {share}: {after:.3f} s, before {before:.3f}, beside it {beside:.3f}"
            )

    def split(self, since: int = 0) -> dict[str, int]:
        """How many answers each `x-served-by` gave, leaving out the first `since`."""
        found: dict[str, int] = {}
        for _, served_by in list(self.answered.values())[since:]:
            found[served_by] = found.get(served_by, 0) + 1
        return found

    async def _run(self) -> None:
        async with (
            _client(64) as session,
            _client(8) as session_beside,
            asyncio.TaskGroup() as group,
        ):
            loop = asyncio.get_running_loop()
            next_at = loop.time()
            number = 0
            while not self._stop.is_set():
                number += 1
                group.create_task(self._one(session, number))
                if self._beside_url and number % BESIDE_EVERY == 0:
                    group.create_task(self._one_beside(session_beside, number))
                next_at = max(next_at + self._interval_s, loop.time() - 0.1)
                await asyncio.sleep(max(0.0, next_at - loop.time()))

    async def _one(self, session: aiohttp.ClientSession, number: int) -> None:
        request_id = uuid.uuid4().hex
        began_s = time.monotonic()
        try:
            answer = await self._ask(session, self._url, number, request_id)
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            self.broken += 1
            return
        self.waits_s.append(time.monotonic() - began_s)
        self.answered[request_id] = (answer.status, answer.headers.get("x-served-by", ""))

    async def _one_beside(self, session: aiohttp.ClientSession, number: int) -> None:
        began_s = time.monotonic()
        await self._ask(session, self._beside_url, number, uuid.uuid4().hex)
        self.beside_s.append(time.monotonic() - began_s)

    async def _ask(
        self, session: aiohttp.ClientSession, url: str, number: int, request_id: str
    ) -> aiohttp.ClientResponse:
        user = f"user-{number % self._users}"
        async with session.post(
            url,
            json={"query_text": f"question {number}", "user_id": user},
            headers={"x-request-id": request_id, "x-user-id": user},
        ) as answer:
            await answer.read()
            return answer


def _client(connections: int) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=connections)
    return aiohttp.ClientSession(connector=connector, timeout=REQUEST_TIMEOUT)


def _quantile(ascending: Sequence[float], share: float) -> float:
    return ascending[int(len(ascending) * share)]


@pytest.fixture
def load() -> type[Load]:
    """The class, for `async with load(url) as traffic`."""
    return Load


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Each request on a connection of its own, so that a kill leaves no stale ones behind."""
    connector = aiohttp.TCPConnector(force_close=True, limit=20)
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as made:
        yield made


@pytest.fixture
async def gateway(tmp_path: Path, session: aiohttp.ClientSession) -> AsyncIterator[Gateway]:
    made = Gateway(tmp_path, session)
    yield made
    await made.end_whatever_runs()


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    made = Servers()
    runners = [await made.serve(version) for version in "AB"]
    yield made
    made.may_answer.set()
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def processes() -> Iterator[Processes]:
    processes = Processes()
    yield processes
    processes.end_all()


@pytest.fixture
def engine(processes: Processes, tmp_path: Path) -> ClickHouseSettings:
    _, url = processes.start(
        "-m", "mlops.local.clickhouse", "--path", str(tmp_path / "clickhouse"), "--port", "0"
    )
    settings = ClickHouseSettings(host="127.0.0.1", port=int(url.rsplit(":", 1)[1]))
    asyncio.run(migrate(settings))
    return settings


@pytest.fixture
def clickhouse(engine: ClickHouseSettings) -> Iterator[Any]:
    with contextlib.closing(
        clickhouse_connect.get_client(host=engine.host, port=engine.port, database=engine.database)
    ) as client:
        yield client
