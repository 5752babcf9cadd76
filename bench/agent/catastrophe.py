"""From the first bad response to the last one of the canary, with real processes.

A gateway, its recorder, an engine, an agent; 200 requests a second from here. The canary is good
until it is not: then every answer of it is a 500.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import aiohttp
from aiohttp import web

from bench.report import Measured
from mlops.local.stack import Stack

RATE_PER_S = 200.0
ROUNDS = 8
GOAL_S = 4.0
WEIGHT = 10
QUIET_S = 1.0
"""So long without an answer of the canary: then it is at 0 % on the wire."""
LIMIT_S = 60.0
POLICY: dict[str, Any] = {
    "steps": [{"setWeight": WEIGHT}, {"pause": {}}],
    "lease": "30s",
    "grace": "60s",
}
TIMEOUT = aiohttp.ClientTimeout(total=10)


class Model:
    """A model server that can begin to fail."""

    def __init__(self) -> None:
        self.fails = False
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        return web.json_response({"answer": "42"}, status=500 if self.fails else 200)

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/query", self.answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner


class Traffic:
    """Steady requests; remembers when the canary answered, and how."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = f"{url}/query"
        self._session = session
        self.canary: list[tuple[float, int]] = []
        """Since the last `clear`: when, and with which status."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._one())
                next_s = max(next_s + 1 / RATE_PER_S, loop.time() - 0.05)
                await asyncio.sleep(max(0.0, next_s - loop.time()))

    async def _one(self) -> None:
        try:
            async with self._session.post(self._url, json={"query_text": "q"}) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            return
        if answer.headers.get("x-served-by", "").startswith("canary"):
            self.canary.append((time.monotonic(), answer.status))


async def measure(stack: Stack) -> list[Measured]:
    """Rounds of one stack: each a release that turns bad."""
    models = (Model(), Model())
    runners = [await model.start() for model in models]
    route = {
        "name": "rag",
        "match": {"prefix": "/"},
        "stable": {"version": "1", "endpoints": [models[0].url]},
        "retry": {"attempts": 1},
    }
    await asyncio.to_thread(stack.start_clickhouse)
    await asyncio.to_thread(stack.start_gateway, [route])
    await asyncio.to_thread(stack.start_recorder)
    await asyncio.to_thread(stack.start_agent)
    connector = aiohttp.TCPConnector(limit=128)
    async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session:
        traffic = Traffic(stack.addresses["gateway"], session)
        traffic.start()
        try:
            took_s = [await _round(stack, session, traffic, models[1], n) for n in range(ROUNDS)]
        finally:
            await traffic.stop()
    for runner in runners:
        await runner.cleanup()
    worst_s = max(took_s)  # of so few rounds the 95th percentile is the greatest
    name = f"catastrophe at {RATE_PER_S:g}/s, {WEIGHT} %: first bad response to 0 % on the wire"
    return [
        Measured(name=f"{name}, median", value=statistics.median(took_s), unit="s"),
        Measured(
            name=f"{name}, greatest of {ROUNDS}",
            value=worst_s,
            unit="s",
            goal=f"p95 at most {GOAL_S:g}",
            holds=worst_s <= GOAL_S,
        ),
    ]


async def _round(
    stack: Stack, session: aiohttp.ClientSession, traffic: Traffic, canary: Model, number: int
) -> float:
    canary.fails = False
    body = {
        "route": "rag",
        "version": f"2.{number}",
        "endpoints": [canary.url],
        "reason": "bench",
        "policy": POLICY,
    }
    token = stack.secrets["AGENT_OPERATOR_TOKEN"]
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{stack.addresses['agent']}/v1/releases"
    async with session.post(url, json=body, headers=headers) as answer:
        assert answer.status == 201, await answer.text()
        release_id = (await answer.json())["id"]
    traffic.canary.clear()
    async with asyncio.timeout(LIMIT_S):
        while len(traffic.canary) < RATE_PER_S * WEIGHT / 100 * 5:  # about five seconds of it
            await asyncio.sleep(0.05)
        traffic.canary.clear()
        canary.fails = True
        while not _is_quiet(traffic):
            await asyncio.sleep(0.02)
        while True:
            async with session.get(f"{url}/{release_id}", headers=headers) as answer:
                if (await answer.json())["phase"] == "rolled_back":
                    break
            await asyncio.sleep(0.05)
    first_bad_s = next(at_s for at_s, status in traffic.canary if status >= 500)
    return traffic.canary[-1][0] - first_bad_s


def _is_quiet(traffic: Traffic) -> bool:
    """The canary has failed, and has not answered for a while."""
    if not traffic.canary or traffic.canary[-1][1] < 500:
        return False
    return time.monotonic() - traffic.canary[-1][0] > QUIET_S
