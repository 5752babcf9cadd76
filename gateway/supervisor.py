"""The supervisor: owns the ports, the plans and the admin API, and has workers serve clients.

Built in order: state, plans, sockets, workers, admin port; ended in reverse. It never serves a
client itself, and it never starts a recorder.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web

from gateway import compiled, hiring, listening, reload
from gateway.admin import Admin, BadConfig, Readiness
from gateway.channel import Drain
from gateway.control import Control
from gateway.crew import Crew
from gateway.metrics import Metrics
from gateway.plan_store import NotStored, PlanStore, StateLock
from gateway.plans import MANAGED_WAIT_S, PlanBook, StoredPlan
from gateway.routing import LivePlan
from gateway.settings import Address, AdminSettings, GatewaySettings, RouteSettings
from gateway.worker_link import NotTaken
from mlops.service.aio import spawn
from mlops.service.tokens import Tokens

log = logging.getLogger(__name__)

DRAIN: Final = Drain(timeout_s=25.0, idle_s=1.0)
"""For exchanges under way at the end; Kubernetes kills 30 s after SIGTERM by default."""
ADMIN_SHUTDOWN_S: Final = 2.0
"""Longest wait for the admin port's open requests at the end."""
LEASES_S: Final = 1.0
"""Between two looks at the leases, for the log only: workers end them on their own."""


class Supervisor:
    """One gateway."""

    def __init__(self, settings: GatewaySettings, read_file: reload.ReadFile) -> None:
        """`read_file` loads the settings again for a reload.

        Raises:
            StateTaken, OSError: the state directory cannot be used.
        """
        self._settings = settings
        self._read_file = read_file
        self._lock = StateLock(settings.state_dir)
        self._store = PlanStore(settings.state_dir)
        self._book = PlanBook()
        self._sockets: dict[Address, list[socket.socket]] = {}
        self._admin_sockets: list[socket.socket] = []
        self._crew: Crew
        self._readiness: Readiness
        self._metrics: Metrics
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Seed or restore every route, start the workers, open both ports, say so on stdout.

        Raises:
            BadPlanFile, NotStored, CannotStart, OSError: it cannot, and says why.
        """
        for route in self._settings.routes:
            seeded = self._take_up(self._book, route)
            if seeded is not None:
                self._store.save_now(seeded)
        await self._bind()
        self._build()
        await self._crew.start()
        await self._serve_admin()
        self._crew.accept()
        self._tasks.append(spawn(self._notice_leases(), name="leases"))
        self._alarm_when_unpublished()
        log.info("the request path is %s", "compiled" if compiled.active() else "plain Python")
        self._say_ready()

    async def stop(self) -> None:
        """Refuse readiness, let exchanges finish, then close the ports."""
        if self._runner is not None:
            self._readiness.draining = True
            self._crew.drain(DRAIN)
            await self._crew.wait()
        for task in self._tasks:
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
        for address, sockets in self._sockets.items():
            for each in sockets:
                each.close()
            if address.path is not None:
                Path(address.path).unlink(missing_ok=True)
        self._lock.close()

    # ---- reload --------------------------------------------------------------------------------

    async def reload(self) -> str:
        """Read the file again and apply it whole, or not at all; says what changed.

        Raises:
            BadConfig: the file is bad, or asks for what needs a restart; nothing changed.
        """
        try:
            fresh = await asyncio.to_thread(self._read_file)
            async with self._crew.changing:
                said = reload.changes(self._settings, fresh)
                await self._serve_routes(fresh.routes)
                self._settings = fresh
        except (ValueError, NotTaken, NotStored) as exc:
            self._metrics.reloads_refused += 1
            raise BadConfig(str(exc)) from exc
        self._alarm_when_unpublished()
        return said

    async def reload_and_log(self) -> None:
        """`reload` for SIGHUP, which nobody waits for."""
        try:
            log.info("reloaded: %s", await self.reload())
        except BadConfig as exc:
            log.warning("the reload was refused, the old state stays: %s", exc)

    async def _serve_routes(self, routes: Sequence[RouteSettings]) -> None:
        before = self._book.routes
        book = self._book.successor(routes)
        seeds = [self._take_up(book, route) for route in routes if route.name not in before]
        ordered = book.successor(routes)
        plans = [ordered.live(route.name) for route in routes]
        async with self._crew.prepared(plans, routes) as commit:
            for seed in seeds:
                if seed is not None:
                    await self._store.save(seed)
            self._book.become(ordered)
            await commit()

    # ---- building ------------------------------------------------------------------------------

    def _take_up(self, book: PlanBook, route: RouteSettings) -> StoredPlan | None:
        """Put a route's plan into `book`: the stored one, or the file's weights, to be stored."""
        stored = self._store.load(route.name)
        if stored is None:
            book.seed(route, time.monotonic())
        else:
            book.restore(stored, route.max_canary_share_bp)
            for difference in reload.overruled(route, stored.plan):
                log.warning("%s", difference)
        log.info("route %s: %r", route.name, book.explain(route.name, time.monotonic()))
        return None if stored is not None or route.managed else book.stored(route.name)

    async def _bind(self) -> None:
        for address in self._settings.listen:
            self._sockets[address] = await listening.listen(address, self._settings.workers)
        admin = self._settings.admin
        address = Address(host=admin.host, port=admin.port)
        self._admin_sockets = await listening.listen(address, 1)

    def _build(self) -> None:
        sockets = [each for address in self._sockets.values() for each in address]
        self._crew = Crew(
            # Workers get their routes with the plans, and need no token of the admin port.
            replace(self._settings, routes=(), admin=AdminSettings()),
            self._settings.workers,
            lambda _: hiring.hire(sockets),
            self._live,
            listening.names(sockets),
        )
        control = Control(self._crew, self._book, self._store, time.monotonic)
        self._readiness = Readiness(control, lambda: bool(self._crew.members))
        self._metrics = Metrics(self._book, self._crew, time.monotonic)
        admin = self._settings.admin
        api = Admin(
            control,
            self._readiness,
            Tokens(operator=admin.operator_token, viewer=admin.viewer_token),
            self._metrics,
            self.reload,
        )
        self._runner = web.AppRunner(
            api.application(), access_log=None, shutdown_timeout=ADMIN_SHUTDOWN_S
        )

    def _live(self) -> tuple[Sequence[RouteSettings], Sequence[LivePlan]]:
        return self._settings.routes, [self._book.live(route) for route in self._book.routes]

    async def _serve_admin(self) -> None:
        assert self._runner is not None
        await self._runner.setup()
        for each in self._admin_sockets:
            await web.SockSite(self._runner, each).start()

    def _say_ready(self) -> None:
        data = [listening.bound(address, sockets) for address, sockets in self._sockets.items()]
        admin = self._settings.admin
        at = listening.bound(Address(host=admin.host, port=admin.port), self._admin_sockets)
        urls = ",".join(map(listening.url, data))
        sys.stdout.write(f"ready {urls} admin {listening.url(at)}\n")
        sys.stdout.flush()

    # ---- what the log says ---------------------------------------------------------------------

    async def _notice_leases(self) -> None:
        lapsed: set[str] = set()
        while True:
            await asyncio.sleep(LEASES_S)
            now_s = time.monotonic()
            for route in self._book.routes:
                if not self._book.live(route).is_lapsed(now_s):
                    lapsed.discard(route)
                elif route not in lapsed:
                    lapsed.add(route)
                    log.warning("route %s: %r", route, self._book.explain(route, now_s))

    def _alarm_when_unpublished(self) -> None:
        now_s = time.monotonic()
        waiting = [route for route in self._book.routes if self._book.is_waiting(route, now_s)]
        if waiting:
            alarm = partial(self._alarm_unpublished, waiting)
            self._tasks.append(spawn(alarm(), name="managed routes' alarm"))

    async def _alarm_unpublished(self, routes: Sequence[str]) -> None:
        await asyncio.sleep(MANAGED_WAIT_S)
        for route in routes:
            if route in self._book.routes and self._book.is_unpublished(route):
                log.warning(
                    "route %s: managed, but no plan came within %g s; the file's stable serves",
                    route,
                    MANAGED_WAIT_S,
                )
