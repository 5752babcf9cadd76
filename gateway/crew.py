"""The workers: as many as asked for, all with the same plans, each replaced when it ends.

A change is made in two steps. Every worker tries it out and says so; only then is it put in force
in all of them. A worker that does not answer is killed and replaced, and its successor gets what is
live before it accepts anybody: so no two workers ever disagree for longer than a message takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from gateway.channel import (
    PROTOCOL,
    Commit,
    Drain,
    Forget,
    Listen,
    LivePlanValue,
    Prepare,
    Start,
    ToWorker,
)
from gateway.counts import NOTHING, Counts, ended, total
from gateway.listening import shares
from gateway.routing import LivePlan
from gateway.settings import GatewaySettings, RouteSettings
from gateway.worker_link import CannotStart, Hired, NoAnswer, NotTaken, WorkerLink
from mlops.service.aio import spawn

log = logging.getLogger(__name__)

START_S: Final = 10.0
"""From a worker's process to its readiness; it takes a third of a second."""
ANSWER_S: Final = 2.0
"""For a change. A worker at its limit answers within some 20 ms; one that takes longer than this is
stopped or hangs, and is replaced. Callers of the admin API give up after 3 s."""
COUNT_S: Final = 0.5
"""For what was counted; past it the last answer stands."""
STEADY_S: Final = 10.0
"""A worker that ends sooner has failed again: its slot waits longer before the next attempt."""
MAX_RESTART_DELAY_S: Final = 10.0
"""A fault that has passed is noticed at the latest after so long."""
KILL_AFTER_S: Final = 3.0
"""What a worker has for sealing its spool after its drain is over, before it is killed."""

Hire = Callable[[int], Awaitable[Hired]]
"""Starts the process of the worker with this index."""
CurrentPlans = Callable[[], tuple[Sequence[RouteSettings], Sequence[LivePlan]]]
"""Every route, in order, and every plan in force."""
Commits = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Watch:
    """How workers are looked at while nothing changes."""

    every_s: float = 1.0
    """Between two looks, and for an answer. What a killed worker counted since the last look is
    not counted."""
    max_missed: int = 10
    """Looks in a row without an answer, 20 s in all, after which a worker is taken to hang, and is
    replaced."""


def missed_in_a_row(before: Mapping[int, int], answered: Mapping[int, bool]) -> dict[int, int]:
    """Looks that each worker has not answered since its last answer, after one more of them."""
    return {pid: 0 if yes else before.get(pid, 0) + 1 for pid, yes in answered.items()}


def restart_delay_s(failures: int) -> float:
    """Before the next attempt after so many quick ends in a row. The first is made at once."""
    return min(MAX_RESTART_DELAY_S, 0.25 * 2.0 ** (failures - 2)) if failures > 1 else 0.0


class HandedOver(RuntimeError):
    """Another process is the gateway now: changes are its business."""


class Crew:
    """The supervisor's workers. Every change is made within `changing`, from check to commit."""

    def __init__(
        self,
        settings: GatewaySettings,
        size: int,
        hire: Hire,
        current: CurrentPlans,
        socket_names: Sequence[object],
        watch: Watch = Watch(),
    ) -> None:
        """`socket_names` are those of the inherited listening sockets, as for `shares`."""
        self.size = size
        self.members: dict[int, WorkerLink] = {}
        """Those that have every plan, by index."""
        self.restarts = [0] * size
        self.before: Counts = NOTHING
        """What those who are no longer here have counted."""
        self.predecessor: Counts = NOTHING
        """What was counted before an upgrade, and by those who still end."""
        self._settings = settings
        self._hire = hire
        self._current = current
        self._socket_names = socket_names
        self._watched = watch
        self._keeping: dict[int, asyncio.Task[None]] = {}
        self._changing = asyncio.Lock()
        self._is_handed_over = False
        self._accepts = False
        self._ends = False
        self._kill: asyncio.TimerHandle | None = None

    # ---- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start every worker and give it every plan. None accepts yet.

        Raises:
            CannotStart, NoAnswer, NotTaken: one of them says why; none is left.
        """
        started = await asyncio.gather(
            *(self._started(index) for index in range(self.size)), return_exceptions=True
        )
        links = [each for each in started if isinstance(each, WorkerLink)]
        failures = [each for each in started if isinstance(each, BaseException)]
        try:
            _raise_first(failures)
            for link in links:
                await self._admit(link)
        except BaseException:
            for link in links:
                link.kill()
            raise
        for link in links:
            self._keeping[link.index] = spawn(self._keep(link), name=f"keep worker {link.index}")
        self._keeping[self.size] = spawn(self._watch(), name="watch workers")

    def accept(self) -> None:
        """Let the workers accept clients."""
        self._accepts = True
        self._deal()

    def drain(self, order: Drain) -> None:
        """Let every worker end in that way. Again: within another bound."""
        self._ends = True
        for index, task in self._keeping.items():
            if index not in self.members:
                task.cancel()
        for link in self.members.values():
            link.send(order)
        if self._kill is not None:
            self._kill.cancel()
        later = order.timeout_s + KILL_AFTER_S
        self._kill = asyncio.get_running_loop().call_later(later, self._kill_all)

    async def wait(self) -> None:
        """After `drain`: until every worker has ended."""
        await asyncio.gather(*self._keeping.values(), return_exceptions=True)
        if self._kill is not None:
            self._kill.cancel()

    def _kill_all(self) -> None:
        for link in self.members.values():
            log.error("worker %d did not end in time and is killed", link.index)
            link.kill()

    # ---- one slot ------------------------------------------------------------------------------

    async def _started(self, index: int) -> WorkerLink:
        hired = await self._hire(index)
        link = WorkerLink(index, hired, asyncio.get_running_loop().time())
        start = Start(protocol=PROTOCOL, index=index, settings=self._settings)
        await link.start(start, START_S)
        return link

    async def _admit(self, link: WorkerLink) -> None:
        """Give a worker everything that is live, then its share of the sockets."""
        async with self._changing:
            routes, plans = self._current()
            await link.done(_prepare(plans, tuple(routes)), ANSWER_S)
            await link.done(_commit, ANSWER_S)
            self.members[link.index] = link
            self._deal()

    async def _keep(self, link: WorkerLink) -> None:
        failures = 0
        clock_s = asyncio.get_running_loop().time
        while True:
            code = await link.wait()
            self._lost(link, code)
            if self._ends:
                return
            failures = failures + 1 if clock_s() < link.started_at_s + STEADY_S else 1
            link, failures = await self._replaced(link.index, failures)

    def _lost(self, link: WorkerLink, code: int) -> None:
        if self.members.get(link.index) is link:
            del self.members[link.index]
        self.before = ended(total([self.before, link.counts]))
        self._deal()
        if not self._ends:
            log.error(
                "worker %d (pid %d) ended with code %d; it is replaced", link.index, link.pid, code
            )

    async def _replaced(self, index: int, failures: int) -> tuple[WorkerLink, int]:
        while True:
            await asyncio.sleep(restart_delay_s(failures))
            self.restarts[index] += 1
            link = None
            try:
                link = await self._started(index)
                await self._admit(link)
            except (CannotStart, NoAnswer, NotTaken, OSError) as exc:
                failures += 1
                delay_s = restart_delay_s(failures)
                log.error("worker %d: %s; again in %g s", index, exc, delay_s)  # noqa: TRY400
            except BaseException:
                if link is not None:
                    link.kill()
                raise
            else:
                log.info("worker %d is back (pid %d)", index, link.pid)
                return link, failures
            if link is not None:
                link.kill()

    def _deal(self) -> None:
        """Every socket has somebody who accepts from it; who gets one more is told first."""
        if not self._accepts or self._ends:
            return
        due = shares(self._socket_names, sorted(self.members))
        changed = [link for link in self.members.values() if link.accepts != due[link.index]]
        for link in sorted(changed, key=lambda each: len(each.accepts) - len(due[each.index])):
            link.accepts = due[link.index]
            link.send(Listen(sockets=link.accepts))

    # ---- changes -------------------------------------------------------------------------------

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Nobody else makes a change meanwhile. Raises HandedOver."""
        async with self._changing:
            if self._is_handed_over:
                raise HandedOver("an upgrade has just replaced this process; ask again")
            yield

    def hand_over(self) -> None:
        """No change is made here any more. Within `changing`."""
        self._is_handed_over = True

    @asynccontextmanager
    async def prepared(
        self, plans: Sequence[LivePlan], routes: Sequence[RouteSettings] | None = None
    ) -> AsyncIterator[Commits]:
        """Every worker can put these in force; calling what is given does. Else it is forgotten.

        With `routes`: those are all routes from now on, and `plans` are of every one of them.
        Only within `changing`.

        Raises:
            NotTaken: a worker cannot; it is in force in none.
        """
        assert self._changing.locked(), "changes are made one after another"
        is_open = True
        everybody = list(self.members.values())
        change = _prepare(plans, None if routes is None else tuple(routes))

        async def commit() -> None:
            nonlocal is_open
            is_open = False
            await self._each(answering, _commit)

        try:
            answering = await self._each(everybody, change)
            yield commit
        finally:
            if is_open:
                for link in everybody:
                    link.send(Forget())

    async def _each(
        self, links: Sequence[WorkerLink], message: Callable[[int], ToWorker]
    ) -> list[WorkerLink]:
        """Those that did it; one that does not answer is killed. Raises NotTaken."""
        answers = await asyncio.gather(
            *(link.done(message, ANSWER_S) for link in links), return_exceptions=True
        )
        done = []
        for link, answer in zip(links, answers, strict=True):
            if answer is None:
                done.append(link)
            elif isinstance(answer, NoAnswer):
                log.error("%s: it is killed and replaced", answer)
                link.kill()
            else:
                raise answer
        return done

    # ---- what was counted ----------------------------------------------------------------------

    async def count(self) -> Counts:
        """Of all workers together, those that have ended included."""
        await asyncio.gather(*(_count(link, COUNT_S) for link in self.members.values()))
        links = self.members.values()
        return total([self.predecessor, self.before, *(link.counts for link in links)])

    async def _watch(self) -> None:
        watch = self._watched
        missed: dict[int, int] = {}
        while not self._ends:
            await asyncio.sleep(watch.every_s)
            links = list(self.members.values())
            answers = await asyncio.gather(*(_count(link, watch.every_s) for link in links))
            pids = [link.pid for link in links]
            missed = missed_in_a_row(missed, dict(zip(pids, answers, strict=True)))
            for link in links:
                if missed[link.pid] >= watch.max_missed and not self._ends:
                    log.error("worker %d hangs: it is killed and replaced", link.index)
                    link.kill()


async def _count(link: WorkerLink, timeout_s: float) -> bool:
    try:
        await link.count(timeout_s)
    except NoAnswer:
        return False
    return True


def _prepare(
    plans: Sequence[LivePlan], routes: tuple[RouteSettings, ...] | None
) -> Callable[[int], ToWorker]:
    values = tuple(
        LivePlanValue(plan=live.plan, lease_ends_at_s=live.lease_ends_at_s) for live in plans
    )
    return lambda number: Prepare(number=number, plans=values, routes=routes)


def _commit(number: int) -> ToWorker:
    return Commit(number=number)


def _raise_first(failures: Sequence[BaseException]) -> None:
    if failures:
        raise failures[0]
