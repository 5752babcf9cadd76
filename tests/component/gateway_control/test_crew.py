"""Several workers take a change together or not at all; scripted ones at the end of the channel."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from gateway.channel import (
    TO_WORKER,
    Ask,
    Channel,
    Commit,
    Counted,
    Done,
    Drain,
    Failed,
    Forget,
    Prepare,
    Ready,
    Refused,
    Start,
    ToWorker,
)
from gateway.counts import NOTHING, Counts
from gateway.crew import ANSWER_S, Crew, HandedOver, Watch
from gateway.plans import in_force
from gateway.routing import LivePlan
from gateway.settings import AdminSettings, GatewaySettings, MatchSettings, RouteSettings
from gateway.worker_link import CannotStart, NotTaken
from mlops.contracts.plan import RoutePlan, Slot

SLOT = Slot(version="A", endpoints=("http://127.0.0.1:1",))
ROUTE = RouteSettings(name="rag", model="rag", match=MatchSettings(), stable=SLOT)


def live(generation: int) -> LivePlan:
    return in_force(RoutePlan(route="rag", generation=generation, salt="s", stable=SLOT), 0.0)


class Scripted:
    """A worker that answers as it is told to, and remembers what is in force."""

    def __init__(self, pid: int, channel: Channel, its_channel: Channel) -> None:
        self.pid = pid
        self.channel = channel
        self.fails = False
        self.refuses = False
        self.is_silent = False
        self.counts = NOTHING
        self.in_force: list[int] = []
        self._prepared: Prepare | None = None
        self._its_channel = its_channel
        self._ended = asyncio.ensure_future(self._run())

    @classmethod
    async def hire(cls, pid: int) -> Scripted:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        return cls(pid, await Channel.over(ours), await Channel.over(theirs))

    @property
    def runs(self) -> bool:
        return not self._ended.done()

    def kill(self) -> None:
        self._ended.cancel()

    async def wait(self) -> int:
        await asyncio.wait([self._ended])
        return -9 if self._ended.cancelled() else 0

    async def _run(self) -> None:
        channel = self._its_channel
        try:
            while (message := await channel.receive(TO_WORKER)) is not None:
                if isinstance(message, Drain):
                    return
                if not self.is_silent:
                    self._answer(channel, message)
        finally:
            channel.close()

    def _answer(self, channel: Channel, message: ToWorker) -> None:
        match message:
            case Start():
                channel.send(Failed(reason="no disk") if self.fails else Ready(name="w"))
            case Prepare() if self.refuses:
                channel.send(Refused(number=message.number, reason="no room"))
            case Prepare():
                self._prepared = message
                channel.send(Done(number=message.number))
            case Commit():
                assert self._prepared is not None
                self.in_force += [x.plan.generation for x in self._prepared.plans]
                self._prepared = None
                channel.send(Done(number=message.number))
            case Forget():
                self._prepared = None
            case Ask():
                channel.send(Counted(number=message.number, counts=self.counts))


class Shop:
    """A crew of two, and everybody it ever hired."""

    def __init__(self, directory: Path, watch: Watch) -> None:
        self.hired: list[Scripted] = []
        self.plan = live(1)
        self._pids = count(100)
        self.failing: set[int] = set()
        """Which of those who are hired cannot start, by their turn."""
        settings = GatewaySettings(
            listen=(), admin=AdminSettings(), state_dir=directory, routes=(), workers=2
        )
        self.crew = Crew(settings, 2, self._hire, lambda: ([ROUTE], [self.plan]), (), watch)

    async def _hire(self, _: int) -> Scripted:
        self.hired.append(await Scripted.hire(next(self._pids)))
        self.hired[-1].fails = len(self.hired) - 1 in self.failing
        return self.hired[-1]

    async def change(self, plan: LivePlan) -> None:
        async with self.crew.changing(), self.crew.prepared([plan]) as commit:
            self.plan = plan
            await commit()

    @property
    def in_force(self) -> list[list[int]]:
        return [each.in_force for each in self.hired]


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def shop(tmp_path: Path, watch: Watch) -> AsyncIterator[Shop]:
    made = Shop(tmp_path, watch)
    yield made
    made.crew.drain(Drain(timeout_s=0, idle_s=0))
    for each in made.hired:
        each.kill()
    await made.crew.wait()


async def test_every_worker_has_the_plans_before_it_is_one_of_the_crew(shop: Shop) -> None:
    await shop.crew.start()
    await shop.change(live(2))
    assert shop.in_force == [[1, 2], [1, 2]]


async def test_what_one_worker_cannot_take_is_in_force_in_none(shop: Shop) -> None:
    await shop.crew.start()
    shop.hired[1].refuses = True
    with pytest.raises(NotTaken, match="worker 1: no room"):
        await shop.change(live(2))
    assert shop.in_force == [[1], [1]]
    assert shop.plan.plan.generation == 1
    shop.hired[1].refuses = False
    await shop.change(live(3))
    assert shop.in_force == [[1, 3], [1, 3]]


async def test_what_the_disk_does_not_take_is_in_force_in_none(shop: Shop) -> None:
    await shop.crew.start()
    with pytest.raises(OSError, match="full"):
        async with shop.crew.changing(), shop.crew.prepared([live(2)]):
            raise OSError("full")
    await shop.change(live(3))
    assert shop.in_force == [[1, 3], [1, 3]]


async def test_a_worker_that_does_not_answer_is_replaced_by_one_that_has_the_plan(
    shop: Shop,
) -> None:
    await shop.crew.start()
    shop.hired[0].is_silent = True
    async with asyncio.timeout(3 * ANSWER_S):
        await shop.change(live(2))
        while len(shop.hired) < 3 or not shop.hired[2].in_force:
            await asyncio.sleep(0.01)
    assert not shop.hired[0].runs
    assert shop.in_force == [[1], [1, 2], [2]]
    assert shop.crew.restarts == [1, 0]


@pytest.mark.parametrize("watch", [Watch(every_s=0.2, max_missed=2)], ids=["short"])
async def test_a_worker_that_hangs_is_replaced_without_any_change(shop: Shop) -> None:
    await shop.crew.start()
    shop.hired[1].is_silent = True
    async with asyncio.timeout(10):
        while len(shop.hired) < 3 or not shop.hired[2].in_force:
            await asyncio.sleep(0.01)
    assert [each.runs for each in shop.hired] == [True, False, True]
    assert shop.in_force == [[1], [1], [1]]
    assert shop.crew.restarts == [0, 1]


async def test_a_worker_that_cannot_be_replaced_is_tried_again(shop: Shop) -> None:
    await shop.crew.start()
    shop.failing = {2, 3}
    shop.hired[1].kill()
    async with asyncio.timeout(10):
        while len(shop.crew.members) < 2 or len(shop.hired) < 5:
            await asyncio.sleep(0.01)
    assert shop.in_force == [[1], [1], [], [], [1]]
    assert shop.crew.restarts == [0, 3]


async def test_counts_do_not_go_down_when_a_worker_is_replaced(shop: Shop) -> None:
    await shop.crew.start()
    for each in shop.hired:
        each.counts = Counts(in_flight=1, refused={"404": 5})
    assert (await shop.crew.count()).refused == {"404": 10}
    shop.hired[0].kill()
    async with asyncio.timeout(5):
        while len(shop.crew.members) < 2 or len(shop.hired) < 3:
            await asyncio.sleep(0.01)
    shop.hired[2].counts = Counts(refused={"404": 1})
    counted = await shop.crew.count()
    assert (counted.in_flight, counted.refused) == (1, {"404": 11})


async def test_a_crew_that_cannot_start_leaves_nobody_behind(shop: Shop) -> None:
    shop.failing = {1}
    with pytest.raises(CannotStart, match="no disk"):
        await shop.crew.start()
    await asyncio.gather(*(each.wait() for each in shop.hired))
    assert not any(each.runs for each in shop.hired)


async def test_after_an_upgrade_nothing_is_changed_here(shop: Shop) -> None:
    await shop.crew.start()
    async with shop.crew.changing():
        shop.crew.hand_over()
    with pytest.raises(HandedOver):
        await shop.change(live(2))
    assert shop.in_force == [[1], [1]]
