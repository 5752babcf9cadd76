"""The supervisor: owns the ports, the plans and the admin API, and has workers serve clients.

Built in order: state, plans, sockets, workers, admin port; ended in reverse. Each is new, or taken
over from a predecessor. It never serves a client itself, and it never starts a recorder.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from aiohttp import web

from gateway import compiled, handover, hiring, listening, reload
from gateway.admin import Admin, BadConfig, Readiness
from gateway.channel import DRAIN_IDLE_S, Drain
from gateway.control import Control
from gateway.counts import ended
from gateway.crew import Crew, HandedOver
from gateway.handover import Handover, Predecessor, Successor, UpgradeFailed
from gateway.metrics import Metrics
from gateway.plan_store import NotStored, PlanStore, StateLock
from gateway.plans import MANAGED_WAIT_S, PlanBook, StoredPlan
from gateway.ports import Ports
from gateway.routing import LivePlan
from gateway.settings import AdminSettings, GatewaySettings, RouteSettings
from gateway.worker_link import NotTaken
from mlops.service.aio import spawn
from mlops.service.tls import ServerContext
from mlops.service.tokens import Tokens, provider_of

log = logging.getLogger(__name__)

UPGRADE_DRAIN: Final = Drain(timeout_s=600.0, idle_s=75.0)
"""After an upgrade there is no hurry: streams end, and idle connections have their usual time."""
UPGRADE_AGAIN_S: Final = 1.0
"""Where accepting fails, as without descriptors left, it would fail again at once."""
ADMIN_SHUTDOWN_S: Final = 2.0
"""Longest wait for the admin port's open requests at the end."""
LEASES_S: Final = 1.0
"""Between two looks at the leases, for the log only: workers end them on their own."""


class Supervisor:
    """One gateway."""

    def __init__(
        self,
        settings: GatewaySettings,
        read_file: reload.ReadFile,
        environ: Mapping[str, str],
        over: asyncio.Event,
        predecessor: Predecessor | None = None,
    ) -> None:
        """`read_file` loads the settings again for a reload; workers start with `environ`; `over`
        is set when another gateway has taken over, and this process is to stop.

        Raises:
            StateTaken, OSError: the state directory cannot be used.
        """
        self._settings = settings
        self._read_file = read_file
        self._environ = environ
        self._over = over
        self._predecessor = predecessor
        self._successor: Successor | None = None
        self._lock = StateLock(settings.state_dir, predecessor.lock if predecessor else None)
        self._store = PlanStore(settings.state_dir)
        self._book = PlanBook()
        self._ports = Ports(settings)
        self._is_gateway = False
        """Serves, and is the only one that does."""
        self._drain = Drain(timeout_s=settings.drain_s, idle_s=DRAIN_IDLE_S)
        self._drains = False
        self._crew: Crew
        self._readiness: Readiness
        self._metrics: Metrics
        self._runner: web.AppRunner | None = None
        self._admin_tls: ServerContext | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Seed or restore every route, start the workers, open both ports, say so on stdout.

        Raises:
            BadPlanFile, NotStored, ShareTooLarge, CannotStart, UpgradeFailed, OSError: it cannot,
                and says why.
        """
        for route in self._settings.routes:
            seeded = self._take_up(self._book, route)
            if seeded is not None:
                self._store.save_now(seeded)
        await self._ports.open(self._predecessor.sockets if self._predecessor is not None else {})
        self._build()
        await self._crew.start()
        if self._predecessor is not None:
            self._crew.predecessor = self._predecessor.counts
            self._crew.accept()
            await self._predecessor.release()
            self._tasks.append(spawn(self._count_predecessor(), name="predecessor"))
        self._is_gateway = True
        self._lock.claim()
        await self._serve_admin()
        self._crew.accept()
        self._tasks.append(spawn(self._notice_leases(), name="leases"))
        self._tasks.append(spawn(self._await_successor(), name="upgrade"))
        self._alarm_when_unpublished()
        log.info("the request path is %s", "compiled" if compiled.active() else "plain Python")
        sys.stdout.write(self._ports.ready_line())
        sys.stdout.flush()

    async def stop(self) -> None:
        """Refuse readiness, let exchanges finish, then close the ports."""
        if self._runner is not None:
            self._readiness.draining = True
            if self._successor is not None:
                await self._runner.cleanup()  # the port is the successor's
            self._drains = True
            self._ports.refuse()
            self._crew.drain(self._drain if self._successor is None else UPGRADE_DRAIN)
            await self._crew.wait()
        for task in self._tasks:
            task.cancel()
        if self._successor is not None:
            await self._successor.tell(await self._crew.count())
        elif self._runner is not None:
            await self._runner.cleanup()
        self._ports.close(remove_paths=self._is_gateway)
        self._lock.close()

    def hurry(self) -> None:
        """Asked to end while an upgrade lets it take its time: now there is the usual bound."""
        if self._drains:
            self._crew.drain(self._drain)

    # ---- upgrade -------------------------------------------------------------------------------

    async def _await_successor(self) -> None:
        """Hand over to whoever asks for it, and serve on where that fails."""
        listening_at = handover.listen(self._settings.state_dir)
        try:
            while self._successor is None:
                try:
                    await self._hand_over(await Successor.accept(listening_at))
                except UpgradeFailed as exc:
                    log.error("the upgrade failed, this process serves on: %s", exc)  # noqa: TRY400
                except Exception:
                    log.exception("the upgrade failed, this process serves on")
                    await asyncio.sleep(UPGRADE_AGAIN_S)
        finally:
            listening_at.close()
            if self._is_gateway:  # else a successor has its own there
                (self._settings.state_dir / handover.SOCKET_NAME).unlink(missing_ok=True)

    async def _hand_over(self, connection: socket.socket) -> None:
        async with self._crew.changing():
            given = Handover(
                plans=self._book.carried(),
                sockets=self._ports.handed(),
                counts=ended(await self._crew.count()),
            )
            descriptors = [self._lock.descriptor, *(each.fileno() for each in self._ports.all)]
            successor = await Successor.give(connection, given, descriptors)
            await successor.serves()
            self._crew.hand_over()
            await successor.take_over()
        log.info("a new process is the gateway now; this one finishes what is under way")
        self._successor = successor
        self._is_gateway = False
        self._over.set()

    async def _count_predecessor(self) -> None:
        assert self._predecessor is not None
        counts = await self._predecessor.last_counts()
        if counts is not None:
            self._crew.predecessor = ended(counts)

    # ---- reload --------------------------------------------------------------------------------

    async def reload(self) -> str:
        """Read the file again and apply it whole, or not at all; says what changed.

        Raises:
            BadConfig: the file is bad, or asks for what needs a restart; nothing changed.
        """
        try:
            async with self._crew.changing():
                # Read in here: of two reloads, whoever comes last has read the file last.
                fresh = await asyncio.to_thread(self._read_file)
                said = reload.changes(self._settings, fresh)
                await self._serve_routes(fresh.routes)
                self._settings = fresh
                if self._admin_tls is not None:
                    await asyncio.to_thread(self._admin_tls.refresh)
        except (ValueError, NotTaken, NotStored, HandedOver) as exc:
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
        carried = self._predecessor.plans.get(route.name) if self._predecessor is not None else None
        stored = self._store.load(route.name) if carried is None else carried
        if carried is not None:
            book.carry_on(carried, route.max_canary_share_bp)
        elif stored is None:
            book.seed(route, time.monotonic())
        else:
            book.restore(stored, route.max_canary_share_bp)
        if stored is not None:
            for difference in reload.overruled(route, stored.plan):
                log.warning("%s", difference)
        log.info("route %s: %r", route.name, book.explain(route.name, time.monotonic()))
        return None if stored is not None or route.managed else book.stored(route.name)

    def _build(self) -> None:
        sockets = self._ports.data_sockets
        self._crew = Crew(
            # Workers get their routes with the plans, and need no token of the admin port.
            replace(self._settings, routes=(), admin=AdminSettings()),
            self._settings.workers,
            lambda _: hiring.hire(sockets, self._environ),
            self._live,
            listening.names(sockets),
        )
        control = Control(self._crew, self._book, self._store, time.monotonic, self._model_of)
        self._readiness = Readiness(control, lambda: bool(self._crew.members))
        self._metrics = Metrics(self._book, self._crew, time.monotonic)
        admin = self._settings.admin
        self._admin_tls = ServerContext(admin.tls, "admin.tls") if admin.tls is not None else None
        api = Admin(
            control,
            self._readiness,
            Tokens(
                operator=admin.operator_token,
                viewer=admin.viewer_token,
                file=admin.token_file,
                provider=provider_of(admin.oidc),
            ),
            self._metrics,
            self.reload,
        )
        self._runner = web.AppRunner(
            api.application(), access_log=None, shutdown_timeout=ADMIN_SHUTDOWN_S
        )

    def _model_of(self, route: str) -> str:
        models = {one.name: one.model for one in self._settings.routes}
        return models.get(route, route)

    def _live(self) -> tuple[Sequence[RouteSettings], Sequence[LivePlan]]:
        return self._settings.routes, [self._book.live(route) for route in self._book.routes]

    async def _serve_admin(self) -> None:
        assert self._runner is not None
        await self._runner.setup()
        ssl_context = self._admin_tls.front if self._admin_tls is not None else None
        for each in self._ports.admin:
            await web.SockSite(self._runner, each, ssl_context=ssl_context).start()

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
            self._tasks = [task for task in self._tasks if not task.done()]
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
