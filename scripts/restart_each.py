"""`make test-restarts`: end each service of the embedded stack and start it again, under load.

Real processes all: ClickHouse's engine, S3, MLflow, two model servers of one version, a gateway
with two workers, recorder and agent. 16 clients ask without a pause on kept connections, and try
nothing again. Each service is killed (SIGKILL), away for a while, and started again; the gateway is
restarted as it is meant to be, by an upgrade in place. A killed worker comes last: it takes with it
what it had under way, at most one request of each client. At the end every answer is looked for in
the log. Ends with 1 if another request failed, or an answer has no row, or two.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import aiohttp

from mlops.deployment.gateway_client import GatewayClient
from mlops.feature_store.connection import open_client
from mlops.local.stack import ANY_PORTS, Stack
from mlops.training.linear_adapter import prepare_demo_models

CLIENTS = 16
WORKERS = 2
AWAY_S = 3.0
"""How long a service stays away; longer than the gateway's health checks take to see it."""
ANSWERS = 200
"""Awaited before a service is ended, and once it is back."""
WAIT_S = 60.0
"""Longest wait for anything."""
MODELS = ("model-a", "model-c")
"""The same version twice: one is there while the other is not."""


@dataclass
class Clients:
    """What was asked, by who was away meanwhile."""

    url: str
    answered: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    is_over: bool = False

    async def ask(self, session: aiohttp.ClientSession, user: int) -> None:
        for number in itertools.count():
            if self.is_over:
                return
            request_id = uuid.uuid4().hex
            body = {"query_text": f"how do I sort array {number}", "user_id": f"user-{user}"}
            headers = {"x-request-id": request_id, "x-user-id": f"user-{user}"}
            began_s = monotonic()
            try:
                async with session.post(f"{self.url}/query", json=body, headers=headers) as answer:
                    await answer.read()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.failed.append(f"{type(error).__name__}: {error}")
                continue
            self.answered.add(request_id)
            if answer.status != 200:
                self.failed.append(f"status {answer.status}")
            self.longest_s = max(self.longest_s, monotonic() - began_s)

    async def until_answered(self, more: int) -> None:
        due = len(self.answered) + more
        async with asyncio.timeout(WAIT_S):
            while len(self.answered) < due:  # noqa: ASYNC110 - a condition of many
                await asyncio.sleep(0.02)


@asynccontextmanager
async def load(url: str) -> AsyncIterator[Clients]:
    clients = Clients(url)
    connector = aiohttp.TCPConnector(limit=CLIENTS)
    timeout = aiohttp.ClientTimeout(total=WAIT_S)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        asyncio.TaskGroup() as group,
    ):
        for user in range(CLIENTS):
            group.create_task(clients.ask(session, user))
        try:
            yield clients
        finally:
            clients.is_over = True


def start(stack: Stack, models: dict[str, Path]) -> dict[str, Callable[[], str]]:
    """Start everything; how each service is started again."""
    again: dict[str, Callable[[], str]] = {
        "clickhouse": stack.start_clickhouse,
        "s3": lambda: stack.begin_s3()(),  # noqa: PLW0108 - begins when it is called
        "mlflow": lambda: stack.begin_mlflow()(),  # noqa: PLW0108
    }
    for name in MODELS:
        again[name] = lambda name=name: stack.start_model(  # type: ignore[misc]
            name, models["1.0.0"], 0
        )
    for begin in again.values():
        begin()
    route = {
        "name": "rag",
        "match": {"prefix": "/"},
        "stable": {"version": "1.0.0", "endpoints": [stack.addresses[name] for name in MODELS]},
        "sticky": {"header": "x-user-id"},
        "health_check": {"path": "/healthz", "interval": "500ms", "timeout": "400ms"},
    }
    stack.start_gateway([route], WORKERS)
    again |= {"recorder": stack.start_recorder, "agent": stack.start_agent}
    stack.start_recorder()
    stack.start_agent()
    return again


def killed(stack: Stack, name: str, again: Callable[[], str]) -> Callable[[], Awaitable[None]]:
    async def act() -> None:
        await asyncio.to_thread(stack.kill, name)
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(again)
        await all_models_are_asked(stack)

    return act


async def all_models_are_asked(stack: Stack) -> None:
    """Else the next one to be killed could be the only one that the gateway finds healthy."""
    token = stack.secrets["GATEWAY_OPERATOR_TOKEN"]
    async with (
        GatewayClient(stack.addresses["admin"], token) as gateway,
        asyncio.timeout(WAIT_S),
    ):
        while True:
            found = (await gateway.route("rag")).upstreams.values()
            if all(one.healthy for arm in found for one in arm):
                return
            await asyncio.sleep(0.1)


def gateway_pid(stack: Stack) -> int:
    """Of the supervisor, whoever started it; 0 while another one is about to write its own."""
    return int((stack.directory / "gateway/lock").read_text(encoding="ascii") or 0)


async def upgrade(stack: Stack) -> None:
    before = gateway_pid(stack)
    os.kill(before, signal.SIGUSR2)
    async with asyncio.timeout(WAIT_S):
        while gateway_pid(stack) in (0, before):  # noqa: ASYNC110 - it is in a file
            await asyncio.sleep(0.05)


async def kill_worker(stack: Stack) -> None:
    pid = gateway_pid(stack)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    os.kill(int(children[0]), signal.SIGKILL)
    await asyncio.sleep(AWAY_S)


async def stored(stack: Stack, wanted: set[str]) -> tuple[int, int]:
    """How many of the answers have no row, and how many rows are doubles; waits for the last."""
    settings = stack.clickhouse
    client = await open_client(settings, database=settings.database)
    try:
        ends_s = monotonic() + WAIT_S
        while True:
            found = await client.query("SELECT request_id FROM query_features")
            ids = [row[0] for row in found.result_rows]
            missing = len(wanted.difference(ids))
            if not missing or monotonic() > ends_s:
                return missing, len(ids) - len(set(ids))
            await asyncio.sleep(0.5)
    finally:
        await client.close()


async def restart_each(stack: Stack, models: dict[str, Path]) -> int:
    again = await asyncio.to_thread(start, stack, models)
    steps: dict[str, Callable[[], Awaitable[None]]] = {
        name: killed(stack, name, begin) for name, begin in again.items()
    }
    steps["gateway (upgrade)"] = lambda: upgrade(stack)
    steps["gateway's worker"] = lambda: kill_worker(stack)
    bad = 0
    async with load(stack.addresses["gateway"]) as clients:
        print(
            f"{'ended and started again':<24}{'answered':>9}{'failed':>8}{'longest s':>11}",
            flush=True,
        )
        for name, act in steps.items():
            await clients.until_answered(ANSWERS)
            answered, clients.failed, clients.longest_s = len(clients.answered), [], 0.0
            await act()
            await clients.until_answered(ANSWERS)
            count, failed = len(clients.answered) - answered, len(clients.failed)
            print(f"{name:<24}{count:>9}{failed:>8}{clients.longest_s:>11.2f}", flush=True)
            bad += failed > (CLIENTS if name == "gateway's worker" else 0)
            for why in sorted(set(clients.failed))[:3]:
                print(f"  {why}")
    missing, doubles = await stored(stack, clients.answered)
    print(f"{len(clients.answered)} answers: {missing} without a row, {doubles} rows twice")
    return 1 if bad or missing or doubles else 0


def main() -> int:
    with TemporaryDirectory(prefix="restart-each-") as name:
        models = prepare_demo_models(Path(name) / "models")
        stack = Stack(directory=Path(name), ports=ANY_PORTS, environ=os.environ)
        try:
            return asyncio.run(restart_each(stack, models))
        finally:
            pid = gateway_pid(stack) if (stack.directory / "gateway/lock").exists() else 0
            stack.stop()
            if pid and Path(f"/proc/{pid}").exists():  # it took over from the one we started
                os.kill(pid, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
