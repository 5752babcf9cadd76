"""A stack under traffic, watched by a real Prometheus, Alertmanager and node exporter."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from mlops.local.stack import Stack

ROOT = Path(__file__).resolve().parents[2]
ROUTE = "rag"
WAIT_S = 60.0


async def until(holds: Callable[[], Awaitable[bool]], what: object) -> None:
    try:
        async with asyncio.timeout(WAIT_S):
            while not await holds():
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"waited {WAIT_S:g} s: {what}") from None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def serve(app: web.Application, runners: contextlib.AsyncExitStack) -> str:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    runners.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}"


def model_server(error_every: int) -> web.Application:
    """Answers with what features are made of; each so-manieth time with status 500."""
    answered = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal answered
        answered += 1
        body = await request.json()
        return web.json_response(
            {
                "query_id": body["query_text"],
                "answer": "forty-two",
                "documents": [{"id": "doc-1", "score": 0.9}],
                "relevance_score": 0.5 + (answered % 40) / 100,
                "embedding": [float(answered % 7), 1.0, float(answered % 3), 0.5],
            },
            status=200 if answered % error_every else 500,
        )

    app = web.Application()
    app.router.add_post("/query", answer)
    return app


def alertmanager_config(webhook: str) -> str:
    """Ours, with the address itself: Debian's Alertmanager 0.25 reads none from a file yet."""
    config = yaml.safe_load((ROOT / "alertmanager/alertmanager.yml").read_text("utf-8"))
    for receiver in config["receivers"]:
        for one in receiver["webhook_configs"]:
            del one["url_file"]
            one["url"] = webhook
    return yaml.safe_dump(config)


class Watched:
    """Everything runs while this is open; `alerts` are those that the webhook was told of."""

    def __init__(self, stack: Stack, directory: Path) -> None:
        self.stack = stack
        self.alerts: list[dict[str, Any]] = []
        self.prometheus = ""
        self._directory = directory

    @contextlib.asynccontextmanager
    async def run(self, stable: str) -> AsyncIterator[Watched]:
        async with contextlib.AsyncExitStack() as running:
            running.push_async_callback(asyncio.to_thread, self.stack.stop)
            await asyncio.to_thread(self._start_stack, stable)
            await running.enter_async_context(self.watch())
            yield self

    @contextlib.asynccontextmanager
    async def watch(self) -> AsyncIterator[Watched]:
        """Only what watches: the stack runs already, and goes on afterwards."""
        addresses = self.stack.addresses
        targets = {"gateway": addresses["admin"]}
        targets |= {part: addresses[part] for part in ("recorder", "agent")}
        async with contextlib.AsyncExitStack() as running:
            webhook = await serve(self._webhook(), running)
            targets["node"] = await self._tool(running, "prometheus-node-exporter", [])
            targets["alertmanager"] = await self._alertmanager(running, webhook)
            self.prometheus = await self._prometheus(running, targets)
            yield self

    def _start_stack(self, stable: str) -> None:
        self.stack.start_clickhouse()
        slot = {"version": "1.0.0", "endpoints": [stable]}
        sticky = {"header": "x-user-id"}
        match = {"prefix": "/"}
        self.stack.start_gateway(
            [{"name": ROUTE, "match": match, "stable": slot, "sticky": sticky}]
        )
        self.start_recorder()
        self.stack.start_agent()

    def start_recorder(self) -> None:
        """As the stack does, with its metrics."""
        self.stack._start(
            "recorder",
            "gateway.recorder",
            ["--config", str(self.stack.directory / "gateway.yaml"), "--metrics-port", "0"],
        )

    def _webhook(self) -> web.Application:
        async def take(request: web.Request) -> web.Response:
            self.alerts += (await request.json())["alerts"]
            return web.Response()

        app = web.Application()
        app.router.add_post("/", take)
        return app

    async def _alertmanager(self, running: contextlib.AsyncExitStack, webhook: str) -> str:
        path = self._directory / "alertmanager.yml"
        path.write_text(alertmanager_config(webhook), encoding="utf-8")
        return await self._tool(
            running,
            "prometheus-alertmanager",
            [
                f"--config.file={path}",
                f"--storage.path={self._directory / 'alertmanager'}",
                "--cluster.listen-address=",  # alone
            ],
        )

    async def _prometheus(self, running: contextlib.AsyncExitStack, targets: dict[str, str]) -> str:
        config = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text("utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(ROOT / "prometheus/rules/*.yml")]
        addresses = {job: url.removeprefix("http://") for job, url in targets.items()}
        config["alerting"]["alertmanagers"] = [
            {"static_configs": [{"targets": [addresses["alertmanager"]]}]}
        ]
        jobs = [one for one in config["scrape_configs"] if one["job_name"] in addresses]
        for job in jobs:
            job.pop("dns_sd_configs", None)
            job.pop("scrape_interval", None)
            job["static_configs"] = [{"targets": [addresses[job["job_name"]]]}]
        config["scrape_configs"] = jobs
        path = self._directory / "prometheus.yml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        data = self._directory / "prometheus"
        return await self._tool(
            running, "prometheus", [f"--config.file={path}", f"--storage.tsdb.path={data}"]
        )

    async def _tool(
        self, running: contextlib.AsyncExitStack, program: str, arguments: list[str]
    ) -> str:
        port = free_port()
        log = (self._directory / f"{program}.log").open("wb")
        running.callback(log.close)
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=log,
            stderr=log,
        )

        async def end() -> None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

        running.push_async_callback(end)
        return f"http://127.0.0.1:{port}"
