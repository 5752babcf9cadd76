"""`python -m gateway.worker`: one worker process, started by the supervisor and told what to do.

It serves clients and spools; it opens no port, reads no file and knows no admin API. When the
supervisor is gone it stops accepting, lets what is under way finish, and ends.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import assert_never

import uvloop
from msgspec.structs import replace as replace_fields

from gateway.channel import (
    DRAIN_IDLE_S,
    PROTOCOL,
    START,
    TO_WORKER,
    Ask,
    Channel,
    Commit,
    Counted,
    Done,
    Drain,
    Failed,
    Forget,
    Listen,
    Prepare,
    Ready,
    Refused,
    Start,
    ToWorker,
)
from gateway.client_rules import most_clients
from gateway.counters import Histogram, SeriesCounters
from gateway.counts import Counts, HistogramValue, SeriesValue
from gateway.listening import inherited
from gateway.observing import Observing
from gateway.proxy import Proxy
from gateway.routing import LivePlan
from gateway.settings import ClientSettings, RouteSettings
from gateway.spool.writer import SpoolWriter
from gateway.tallies import TallySchedule
from gateway.tls import Contexts
from mlops.service.aio import spawn, tasks_of

log = logging.getLogger(__name__)


class Worker:
    """Does what the supervisor says, in the order in which it says it."""

    def __init__(self, channel: Channel, sockets: Sequence[socket.socket]) -> None:
        self._channel = channel
        self._sockets = sockets
        self._routes: tuple[RouteSettings, ...] = ()
        self._prepared: Prepare | None = None
        """The supervisor makes one change at a time."""
        self._spool: SpoolWriter | None = None
        self._observing: Observing | None = None
        self._proxy: Proxy
        self._tallies = TallySchedule(int(_wall_s()) - 1)
        self._ending: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._has_settled = False
        self._drain_s = 0.0
        """When the supervisor has gone."""

    async def start(self) -> bool:
        """Do what the first message asks; False: there is none, or it cannot be done."""
        start = await self._channel.receive(START)
        return start is not None and await self._start(start)

    async def run(self) -> None:
        """Until it was told to drain, or the supervisor has gone; then until that is done."""
        tasks = [
            spawn(self._every_second(), name="tallies"),
            spawn(self._obey_supervisor(), name="supervisor"),
        ]
        await self._ended.wait()
        for task in tasks:
            task.cancel()
        await self._close()

    def drain(self, order: Drain) -> None:
        """Begin to end, or go on ending within another bound."""
        if self._ending is not None:
            self._ending.cancel()
        self._ending = spawn(self._drain(order), name="drain")

    # ---- what the supervisor says --------------------------------------------------------------

    async def _start(self, start: Start) -> bool:
        if start.protocol != PROTOCOL:
            reason = (
                f"the supervisor speaks protocol {start.protocol}, the program on disk {PROTOCOL}: "
                "upgrade the gateway"
            )
            return await self._fail(reason)
        settings = start.settings
        self._drain_s = settings.drain_s
        if settings.spool is not None:
            try:
                self._spool = await asyncio.to_thread(SpoolWriter.open, settings.spool, start.index)
            except OSError as exc:
                return await self._fail(
                    f"spool: {settings.spool.dir}: {exc.strerror or exc}; expected a directory to "
                    "write to, or a place to make it"
                )
            except ValueError as exc:
                return await self._fail(str(exc))
        try:
            contexts = await asyncio.to_thread(Contexts, settings.tls)
            randomness = Random(secrets.randbits(128))  # noqa: S311 - draws samples, guards nothing
            self._observing = Observing.open(settings.observe, randomness)
        except (OSError, ValueError) as exc:
            return await self._fail(str(exc))
        clients = _affordable(settings.clients)
        self._proxy = Proxy(
            (),
            self._spool,
            self._observing,
            clients=clients,
            served_by=settings.observe.served_by,
            contexts=contexts,
        )
        self._channel.send(Ready(name=self._spool.worker if self._spool is not None else ""))
        return True

    async def _fail(self, reason: str) -> bool:
        self._channel.send(Failed(reason=reason))
        await self._channel.flush()
        return False

    async def _obey_supervisor(self) -> None:
        try:
            while (message := await self._channel.receive(TO_WORKER)) is not None:
                await self._obey(message)
            log.warning("the supervisor has gone: draining")
        except Exception:
            log.exception("an order could not be carried out, draining")
        self.drain(Drain(timeout_s=self._drain_s, idle_s=DRAIN_IDLE_S))

    async def _obey(self, message: ToWorker) -> None:
        match message:
            case Prepare():
                self._prepare(message)
            case Commit():
                self._commit(message)
            case Forget():
                self._prepared = None
            case Listen():
                await self._listen(message)
            case Ask():
                self._channel.send(Counted(number=message.number, counts=self._counts()))
            case Drain():
                self.drain(message)
            case Start():
                raise AssertionError("a worker is started once")
            case _:
                assert_never(message)

    def _prepare(self, change: Prepare) -> None:
        routes = self._routes if change.routes is None else change.routes
        try:
            if change.routes is None:
                named = {live.plan.route for live in change.plans}
                routes = tuple(route for route in routes if route.name in named)
            self._proxy.rehearse(routes, _lives(change))
        except Exception as exc:
            log.exception("change %d cannot be put in force", change.number)
            self._channel.send(Refused(number=change.number, reason=f"{type(exc).__name__}: {exc}"))
        else:
            self._prepared = change
            self._channel.send(Done(number=change.number))

    def _commit(self, commit: Commit) -> None:
        change, self._prepared = self._prepared, None
        assert change is not None, "a change is prepared before it is made"
        if change.routes is None:
            for live in _lives(change):
                self._proxy.apply(live)
        else:
            self._routes = change.routes
            self._proxy.replace(change.routes, _lives(change))
        self._channel.send(Done(number=commit.number))

    async def _listen(self, message: Listen) -> None:
        if self._ending is not None:
            return
        await self._proxy.listen([self._sockets[index] for index in message.sockets])
        if not self._has_settled:
            self._has_settled = True
            gc.collect()
            gc.freeze()  # what is built at start lives until the end: collections pass it by

    # ---- once a second -------------------------------------------------------------------------

    async def _every_second(self) -> None:
        while True:
            now_s = _wall_s()
            await asyncio.sleep(int(now_s) + 1 - now_s)  # to the next second, so never drifting
            try:
                for second in self._tallies.due(int(_wall_s()) - 1):
                    self._tally(second)
            except Exception:
                log.exception("one second's tally failed; the next is tried")

    def _tally(self, second: int, *, final: bool = False) -> None:
        tally = self._proxy.take_tally(second)
        if self._spool is not None:
            self._tallies.offer(self._spool, replace_fields(tally, final=final))

    # ---- the end -------------------------------------------------------------------------------

    async def _drain(self, order: Drain) -> None:
        await self._proxy.accept_waiting()
        await self._proxy.listen(())
        for each in self._sockets:
            each.close()
        cut = await self._proxy.drain(order.timeout_s, order.idle_s)
        if cut:
            log.warning("%d exchanges were cut after %g s of draining", cut, order.timeout_s)
        self._ended.set()

    async def _close(self) -> None:
        # One second ahead: the proxy's time of day may lead ours by a few milliseconds.
        self._tally(int(_wall_s()) + 1, final=True)
        if self._spool is not None:
            await asyncio.to_thread(self._spool.close)
        if self._observing is not None:
            await asyncio.to_thread(self._observing.close)
        self._channel.send(Counted(number=0, counts=self._counts()))
        await self._channel.flush()

    # ---- what was counted ----------------------------------------------------------------------

    def _counts(self) -> Counts:
        proxy, spool, observing = self._proxy, self._spool, self._observing
        return Counts(
            in_flight=proxy.in_flight,
            connections=proxy.connections,
            tasks=tasks_of(asyncio.get_running_loop()),
            refused={str(status): count for status, count in proxy.refused.items()},
            dropped=dict(spool.dropped) if spool is not None else {},
            access_log_dropped=observing.access_log_dropped if observing is not None else 0,
            mirrors_skipped=proxy.mirrors_skipped(),
            series=tuple(_series(each) for each in proxy.counters()),
            arms={name: proxy.arms(name) for name in proxy.routes},
            upstreams={route.name: proxy.upstreams(route.name) for route in self._routes},
        )


def _series(counters: SeriesCounters) -> SeriesValue:
    return SeriesValue(
        route=counters.route,
        arm=counters.arm,
        version=counters.version,
        outcome=counters.outcome,
        latency=_histogram(counters.latency),
        first_byte=_histogram(counters.first_byte),
        own=_histogram(counters.own),
        request_bytes=counters.request_bytes,
        response_bytes=counters.response_bytes,
    )


def _histogram(histogram: Histogram) -> HistogramValue:
    return HistogramValue(
        bounds_us=histogram.bounds_us, counts=tuple(histogram.counts), sum_us=histogram.sum_us
    )


def _lives(change: Prepare) -> list[LivePlan]:
    return [LivePlan(each.plan, each.lease_ends_at_s) for each in change.plans]


def _wall_s() -> float:
    return time.time()  # noqa: TID251 - a tally is stamped with the time of day


async def _serve(channel: int, sockets: Sequence[int]) -> None:
    worker = Worker(await Channel.over(inherited(channel)), [inherited(each) for each in sockets])
    if await worker.start():
        await worker.run()


def _allow_many_connections() -> None:
    """Use what the system allows: a session's usual soft limit is 1,024 descriptors."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _affordable(clients: ClientSettings) -> ClientSettings:
    """The settings, with no more connections than there are descriptors for."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    asked, most = clients.limits.connections, most_clients(descriptors)
    if asked <= most:
        return clients
    log.warning(
        "limits.connections is %d, but a process may have %d open files here (ulimit -Hn): at most "
        "%d clients at a time are served, the rest is answered 503",
        *(asked, descriptors, most),
    )
    return replace(clients, limits=replace(clients.limits, connections=most))


def main() -> int:
    """`python -m gateway.worker CHANNEL SOCKET...`: inherited descriptors, by number."""
    channel, *sockets = (int(word) for word in sys.argv[1:])
    # A terminal's Ctrl-C and what is sent to a whole group reach the supervisor, which decides.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    _allow_many_connections()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    uvloop.run(_serve(channel, sockets))
    return 0


if __name__ == "__main__":
    sys.exit(main())
