"""The gateway's composition root: builds every part, starts them in order, ends them in reverse.

settings -> spool -> proxy -> plans -> data port -> admin port. It never starts a recorder.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from aiohttp import web
from msgspec.structs import replace

from gateway import compiled, config, reload
from gateway.admin import Admin, BadConfig, Readiness
from gateway.control import Control
from gateway.metrics import Metrics
from gateway.plan_store import PlanStore
from gateway.plans import MANAGED_WAIT_S, PlanBook
from gateway.proxy import Proxy
from gateway.settings import Address, GatewaySettings, RouteSettings
from gateway.spool.writer import SpoolWriter
from mlops.contracts.tally import Tally
from mlops.service.aio import spawn
from mlops.service.tokens import Tokens

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 30.0
"""Longest wait for exchanges in flight at the end; Kubernetes kills after 30 s by default."""
ADMIN_SHUTDOWN_S = 2.0
"""Longest wait for the admin port's open requests at the end."""
MAX_SECONDS_CAUGHT_UP = 60
"""After a pause, seconds that get a tally of their own; older ones are summed into the first."""
MAX_PENDING_TALLIES = 600
"""Ten minutes of tallies wait for a spool that takes none; past that the oldest is given up."""


async def serve(path: Path, environ: Mapping[str, str]) -> None:
    """Run one gateway until SIGTERM or SIGINT.

    Raises:
        ConfigError, BadPlanFile, OSError: it cannot start, and says why.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings = config.load(path, environ)
    store = PlanStore(settings.state_dir)
    spool = None
    if settings.spool is not None:
        spool = await asyncio.to_thread(SpoolWriter.open, settings.spool)
    gateway = Gateway(settings, store, spool, lambda: config.load(path, environ))
    loop.add_signal_handler(signal.SIGHUP, lambda: spawn(gateway.reload_and_log(), name="reload"))
    try:
        await gateway.start()
        await stop.wait()
    finally:
        await gateway.stop()


class Gateway:
    """One worker: a proxy, its plans, its spool and its admin port."""

    def __init__(
        self,
        settings: GatewaySettings,
        store: PlanStore,
        spool: SpoolWriter | None,
        read_file: reload.ReadFile,
    ) -> None:
        """`read_file` loads the settings again for a reload."""
        self._settings = settings
        self._spool = spool
        self._read_file = read_file
        self._store = store
        self._book = PlanBook()
        self._proxy = Proxy(settings.routes, spool, clients=settings.clients)
        self._control = Control(self._proxy, self._book, self._store, time.monotonic)
        self._readiness = Readiness(self._control)
        self._metrics = Metrics(
            self._proxy,
            self._book,
            lambda: spool.dropped if spool is not None else {},
            time.monotonic,
            spool.worker if spool is not None else "0",
        )
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._tallies = TallySchedule(int(_wall_s()) - 1)
        self._serves = False

    async def start(self) -> None:
        """Seed or restore every route, open both ports, say so on stdout."""
        for route in self._settings.routes:
            self._take_up(route)
        bound = await self._proxy.listen(self._settings.listen)
        log.info("the request path is %s", "compiled" if compiled.active() else "plain Python")
        self._serves = True
        admin = await self._start_admin()
        self._tasks.append(spawn(self._every_second(), name="tally and leases"))
        if any(self._book.is_unpublished(route) for route in self._book.routes):
            self._tasks.append(spawn(self._alarm_unpublished(), name="managed routes' alarm"))
        gc.collect()
        gc.freeze()  # what is built at start lives until the end: no collection looks at it again
        data = ",".join(_url(address) for address in bound)
        sys.stdout.write(f"ready {data} admin {_url(admin)}\n")
        sys.stdout.flush()

    async def stop(self) -> None:
        """Refuse readiness, let exchanges finish, close the spool, then the admin port."""
        self._readiness.draining = True
        if self._serves:
            cut = await self._proxy.drain(DRAIN_TIMEOUT_S)
            if cut:
                log.warning("%d exchanges were cut after %g s of draining", cut, DRAIN_TIMEOUT_S)
        for task in self._tasks:
            task.cancel()
        if self._spool is not None:
            if self._serves:
                # One second ahead: the proxy's time of day may lead ours by a few milliseconds.
                last = self._proxy.take_tally(int(_wall_s()) + 1)
                self._tallies.offer(self._spool, replace(last, final=True))
            await asyncio.to_thread(self._spool.close)
        if self._runner is not None:
            await self._runner.cleanup()

    async def reload(self) -> str:
        """Read the file again and apply it whole, or not at all.

        Raises:
            BadConfig: the file is bad, or asks for what needs a restart; nothing changed.
        """
        try:
            fresh = await asyncio.to_thread(self._read_file)
            changes = reload.changes(self._settings, fresh)
        except ValueError as exc:
            self._metrics.reloads_refused += 1
            raise BadConfig(str(exc)) from exc
        self._settings = fresh
        return changes

    async def reload_and_log(self) -> None:
        """`reload` for SIGHUP, which nobody waits for."""
        try:
            log.info("reloaded: %s", await self.reload())
        except BadConfig as exc:
            log.warning("the reload was refused, the old state stays: %s", exc)

    def _take_up(self, route: RouteSettings) -> None:
        stored = self._store.load(route.name)
        if stored is not None:
            live = self._book.restore(stored)
            for difference in reload.overruled(route, stored.plan):
                log.warning("%s", difference)
        else:
            live = self._book.seed(route, time.monotonic())
            if not route.managed:
                self._store.save_now(self._book.stored(route.name))
        self._proxy.apply(live)
        log.info("route %s: %r", route.name, self._book.explain(route.name, time.monotonic()))

    async def _start_admin(self) -> Address:
        settings = self._settings.admin
        admin = Admin(
            self._control,
            self._readiness,
            Tokens(operator=settings.operator_token, viewer=settings.viewer_token),
            self._metrics,
            self.reload,
        )
        self._runner = web.AppRunner(
            admin.application(), access_log=None, shutdown_timeout=ADMIN_SHUTDOWN_S
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, settings.host, settings.port).start()
        host, port = self._runner.addresses[0][:2]
        return Address(host=host, port=port)

    async def _every_second(self) -> None:
        """Once a second: tally what was answered, and say when a lease ends."""
        lapsed: set[str] = set()
        while True:
            now_s = _wall_s()
            await asyncio.sleep(int(now_s) + 1 - now_s)  # to the next second, so never drifting
            try:
                self._tally(int(_wall_s()) - 1)
                self._notice_leases(lapsed)
            except Exception:
                log.exception("one second's tally failed; the next is tried")

    def _tally(self, passed: int) -> None:
        for second in self._tallies.due(passed):
            tally = self._proxy.take_tally(second)
            if self._spool is not None:
                self._tallies.offer(self._spool, tally)

    def _notice_leases(self, lapsed: set[str]) -> None:
        now_s = time.monotonic()
        for route in self._book.routes:
            if not self._book.live(route).is_lapsed(now_s):
                lapsed.discard(route)
            elif route not in lapsed:
                lapsed.add(route)
                log.warning("route %s: %r", route, self._book.explain(route, now_s))

    async def _alarm_unpublished(self) -> None:
        await asyncio.sleep(MANAGED_WAIT_S)
        for route in self._book.routes:
            if self._book.is_unpublished(route):
                log.warning(
                    "route %s: managed, but no plan came within %g s; the file's stable serves",
                    route,
                    MANAGED_WAIT_S,
                )


class TakesTallies(Protocol):
    """The part of the spool that tallies need."""

    def offer_tally(self, tally: Tally) -> bool: ...


class TallySchedule:
    """Which seconds have been tallied, and tallies that the spool has not taken yet."""

    def __init__(self, last_second: int) -> None:
        self._last_second = last_second
        self._pending: deque[Tally] = deque(maxlen=MAX_PENDING_TALLIES)

    def due(self, passed: int) -> range:
        """Seconds to tally now that `passed` is over; none while the clock is set back."""
        first = max(self._last_second + 1, passed - MAX_SECONDS_CAUGHT_UP + 1)
        self._last_second = max(self._last_second, passed)
        return range(first, passed + 1)

    def offer(self, spool: TakesTallies, tally: Tally) -> None:
        """Hand over in order: a tally says that everything before it is in the spool."""
        self._pending.append(tally)
        while self._pending and spool.offer_tally(self._pending[0]):
            self._pending.popleft()


def _wall_s() -> float:
    return time.time()  # noqa: TID251 - a tally is stamped with the time of day


def _url(address: Address) -> str:
    if address.path is not None:
        return f"unix:{address.path}"
    host = f"[{address.host}]" if ":" in str(address.host) else address.host
    return f"http://{host}:{address.port}"
