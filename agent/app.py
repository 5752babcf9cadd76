"""The agent's composition root: builds every part, starts them in order, ends them in reverse.

settings -> memory -> gateways -> log -> loop -> API.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from aiohttp import web

from agent import settings as agent_settings
from agent.api import Api
from agent.console.alerts import AlertsApi, PrometheusAlerts
from agent.console.api import Console
from agent.console.door import Door
from agent.console.replays import MAX_ADDRESS_BYTES, Replays
from agent.decision import code_version
from agent.discovery import Discovery
from agent.drift import DriftSettings
from agent.drift_api import DriftApi
from agent.drift_memory import DriftStore
from agent.drift_watcher import DriftWatcher
from agent.evaluations import Evaluations
from agent.gatekeeper import Gatekeeper
from agent.journal import Journal
from agent.loop import Loop, Runtime
from agent.memory import Memory, MemoryUnavailable
from agent.metrics import Metrics
from agent.notifier import Notifier
from agent.observer import Observer
from agent.patient_log import PatientLog
from agent.providers import Providers
from agent.publisher import Gateways
from agent.releases import Releases
from agent.settings import AgentSettings
from mlops.contracts.api import AGENT_ACTOR
from mlops.service.aio import spawn
from mlops.service.tls import ServerContext, Trust
from mlops.service.tokens import Tokens, provider_of

log = logging.getLogger(__name__)

SHUTDOWN_S = 2.0
"""Longest wait for open requests at the end."""

EVENTS_TOLD_AGAIN = 200
"""At start: what an agent that was killed may not have brought to ClickHouse. Telling it again
stores nothing twice."""


class Agent:
    """One agent: several may share a database, one of them acts."""

    def __init__(self, settings: AgentSettings, memory: Memory, log: PatientLog) -> None:
        self._settings = settings
        self._memory = memory
        self._log = log
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        discovery = Discovery(settings.gateways, actor=AGENT_ACTOR, now_s=time.monotonic)
        self._gateways = Gateways(discovery, time.monotonic)
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None
        self._journal: Journal | None = None
        self._gatekeeper: Gatekeeper | None = None

    async def start(self) -> str:
        """Begin to act and to answer; returns the address."""
        metrics = Metrics()
        last = await self._memory.last_sequence()
        journal = self._journal = Journal(self._memory, max(0, last - EVENTS_TOLD_AGAIN))
        evaluations = Evaluations(self._log, metrics)
        rules = self._settings.rules
        providers = Providers(self._settings.clickhouse, Trust(self._settings.model_servers_tls))
        gatekeeper = self._gatekeeper = Gatekeeper(rules, providers, _unix_s)
        runtime = Runtime(self._holder, code_version(), time.monotonic, _unix_s)
        loop = Loop(
            self._memory,
            self._gateways,
            Observer(self._log, evaluations.stored_through),
            journal,
            gatekeeper,
            metrics=metrics,
            runtime=runtime,
        )
        notifier = Notifier(
            self._memory, rules.notices, leads=lambda: loop.leads, unix_s=_unix_s, metrics=metrics
        )
        drift = DriftWatcher(
            DriftStore(self._memory),
            self._log,
            loop,
            self._settings.drift or DriftSettings(),
            runtime=runtime,
            metrics=metrics,
        )
        releases = Releases(
            self._memory,
            self._gateways,
            loop,
            rules,
            interval_s=self._settings.interval_s,
            unix_s=_unix_s,
        )
        tokens = Tokens(
            operator=self._settings.operator_token,
            viewer=self._settings.viewer_token,
            file=self._settings.token_file,
            provider=provider_of(self._settings.oidc),
        )
        api = Api(
            releases, evaluations, journal, self._memory, loop, metrics=metrics, tokens=tokens
        )
        console = Console(loop, releases, self._gateways, self._log, rules, unix_s=_unix_s)
        more = [*DriftApi(drift).routes(), *console.routes(), *self._reads(loop, releases, drift)]
        url = await self._listen(api.application(more, Door(tokens)))
        self._tasks = [
            spawn(loop.run(self._settings.interval_s, self._log), name="loop"),
            spawn(evaluations.run(), name="evaluations"),
            spawn(notifier.run(), name="notices"),
            spawn(console.run(), name="console"),
        ]
        if self._settings.drift is not None:
            self._tasks.append(spawn(drift.run(), name="drift"))
        return url

    def _reads(self, loop: Loop, releases: Releases, drift: DriftWatcher) -> Iterator[web.RouteDef]:
        """Of the console: what takes longer, or asks others."""
        asked = self._settings.alerts
        prometheus = None if asked is None else PrometheusAlerts(asked, time.monotonic)
        yield from AlertsApi(loop, releases, drift, prometheus, unix_s=_unix_s).routes()
        yield from Replays(releases, self._log, unix_s=_unix_s, monotonic_s=time.monotonic).routes()

    async def _listen(self, app: web.Application) -> str:
        self._runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=SHUTDOWN_S,
            max_line_size=MAX_ADDRESS_BYTES,
        )
        await self._runner.setup()
        host = self._settings.host
        tls = self._settings.tls
        context = ServerContext(tls).front if tls is not None else None
        await web.TCPSite(self._runner, host, self._settings.port, ssl_context=context).start()
        port = self._runner.addresses[0][1]
        scheme = "http" if tls is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    async def stop(self) -> None:
        """Stop acting first, then let another agent lead at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._gatekeeper is not None:
            await self._gatekeeper.close()
        if self._journal is not None:
            self._journal.close()
        if self._runner is not None:
            await self._runner.cleanup()
        await self._gateways.close()
        await self._log.close()
        try:
            await self._memory.resign(self._holder)
        except MemoryUnavailable as error:
            log.warning("the next agent has to wait for our lease to end: %s", error)
        await self._memory.close()


async def serve(path: Path, environ: Mapping[str, str]) -> None:
    """Run one agent until SIGTERM or SIGINT.

    Raises:
        SettingsError, MemoryUnavailable, OSError: it cannot start, and says why.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings = agent_settings.load(path, environ)
    targets = [target.name for target in settings.rules.notices]
    memory = await asyncio.to_thread(Memory.open, settings.memory, targets)
    agent = Agent(settings, memory, PatientLog(settings.clickhouse))
    try:
        url = await agent.start()
        sys.stdout.write(f"ready {url}\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        await agent.stop()


_unix_s: Callable[[], float] = time.time  # noqa: TID251  moments that outlive the process
