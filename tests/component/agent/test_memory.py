"""What agents that share a database may count on, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.database import MemoryUnavailable
from agent.memory import Memory, NotLeader, Outdated, RouteTaken
from agent.outbox import MAX_WAIT_S, Outbox
from agent.release import Change, Phase, Release
from tests import releases

STARTED = Change(kind="release.started", actor="ann", reason="test")
STEP = Change(kind="release.step", actor="agent", reason="test")
NOTED = Change(kind="asked.promote", actor="ann", reason="test")


def release(number: int = 1, route: str = "rag") -> Release:
    return releases.release(id=f"rel-{number}", route=route, started_at_s=float(number))


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'agent.sqlite'}"
    return str(request.getfixturevalue("postgresql"))


@pytest.fixture
async def two(address: str) -> AsyncIterator[tuple[Memory, Memory]]:
    """Two agents' memories, opened at the same moment on an empty database."""
    opened = await asyncio.gather(
        *(asyncio.to_thread(Memory.open, address, ("slack", "hook")) for _ in range(2))
    )
    yield opened[0], opened[1]
    for memory in opened:
        await memory.close()


async def test_one_leads_until_it_resigns_or_its_lease_ends(two: Any) -> None:
    one, other = two
    first = await asyncio.gather(one.lead("one", 60), other.lead("other", 60))
    assert sorted(first) == [False, True]
    leader, follower = ("one", "other") if first[0] else ("other", "one")
    assert await one.lead(leader, 60)
    assert not await other.lead(follower, 60)
    await one.resign(leader)
    assert await other.lead(follower, 0)  # ends at once
    assert await one.lead(leader, 60)


async def test_a_leader_that_was_replaced_changes_nothing(two: Any) -> None:
    one, other = two
    await one.create(release(), STARTED, 1.0)
    assert await one.lead("one", 0)
    assert await other.lead("other", 60)
    with pytest.raises(NotLeader):
        await one.change(release(), STEP, revision=1, at_s=2.0, leader="one")
    await other.change(release(), STEP, revision=1, at_s=2.0, leader="other")
    with pytest.raises(Outdated):
        await other.change(release(), STEP, revision=1, at_s=2.0, leader="other")
    kinds = [event.kind for event in await one.events()]
    assert kinds == ["release.started", "release.step"]


async def test_a_route_has_one_release_however_many_start_one(two: Any) -> None:
    one, other = two
    started = await asyncio.gather(
        *(memory.create(release(n), STARTED, 1.0) for n, memory in enumerate((one, other) * 4)),
        return_exceptions=True,
    )
    refused = [answer for answer in started if answer is not None]
    assert len(refused) == 7
    assert all(isinstance(answer, RouteTaken) for answer in refused)
    (kept,) = await one.newest()
    ended = replace(kept.release, phase=Phase.ABORTED)
    await other.change(ended, STEP, revision=kept.revision, at_s=2.0, leader=None)
    await one.create(release(99), STARTED, 3.0)
    assert [k.release.id for k in await other.newest()] == ["rel-99"]


@pytest.mark.parametrize("earlier_s", [1e10, 99.0], ids=["a clock was ahead", "the same moment"])
async def test_the_newest_release_is_the_one_started_last(two: Any, earlier_s: float) -> None:
    """Whatever the clocks of the agents that started them said."""
    one, other = two
    ended = replace(release(1), started_at_s=earlier_s, phase=Phase.ABORTED)
    await one.create(ended, STARTED, earlier_s)
    await other.create(release(99), STARTED, 99.0)
    await other.create(release(3, "elsewhere"), STARTED, 3.0)
    newest = {kept.release.route: kept.release for kept in await one.newest()}
    assert newest == {"rag": release(99), "elsewhere": release(3, "elsewhere")}
    of_rag = [kept.release.id for kept in await one.recent() if kept.release.route == "rag"]
    assert of_rag == ["rel-99", "rel-1"]


async def test_who_follows_by_number_misses_no_entry(two: Any) -> None:
    """Two write at once: no entry appears after one with a greater number was seen."""
    one, other = two
    for memory, route in ((one, "a"), (other, "b")):
        await memory.create(release(ord(route), route), STARTED, 1.0)
    seen: list[int] = []

    async def write(memory: Memory, route: str) -> None:
        for revision in range(1, 41):
            await memory.change(
                release(ord(route), route), STEP, revision=revision, at_s=2.0, leader=None
            )

    async def follow(writing: asyncio.Future[Any]) -> None:
        while True:
            done = writing.done()
            seen.extend(e.sequence for e in await two[0].events(after=max(seen, default=0)))
            if done:
                return

    writing = asyncio.gather(write(one, "a"), write(other, "b"))
    await follow(writing)
    await writing
    everything = [event.sequence for event in await one.events()]
    assert seen == everything
    assert len(everything) == 82


async def test_a_transition_leaves_one_notice_for_each_target(two: Any) -> None:
    one, other = two
    mine, theirs = Outbox(one), Outbox(other)
    await one.create(release(), STARTED, 1.0)
    await one.change(release(), NOTED, revision=1, at_s=2.0, leader=None)
    due = await theirs.due(1.0, 10)
    assert sorted((one.target, one.event.kind) for one in due) == [
        ("hook", "release.started"),
        ("slack", "release.started"),
    ]
    sequence = due[0].event.sequence
    await mine.told("hook", sequence)
    await mine.tell_later("slack", sequence, 50.0)
    assert await theirs.due(49.0, 10) == []
    (late,) = await theirs.due(50.0, 10)
    assert (late.target, late.attempts) == ("slack", 1)
    assert await mine.untold() == 1
    assert [again.event.sequence for again in await theirs.due(50.0 - MAX_WAIT_S - 1, 10)] == [
        sequence
    ], "put off by a clock that was ahead"


async def test_notices_to_a_target_that_is_named_no_more_wait_for_nobody(address: str) -> None:
    before = Memory.open(address, ("slack", "old"))
    await before.create(release(), STARTED, 1.0)
    after = Memory.open(address, ("slack",))
    assert (await Outbox(before).untold(), await Outbox(after).untold()) == (2, 1)
    for memory in (before, after):
        await memory.close()


async def test_an_address_that_cannot_be_used_shows_no_password(tmp_path: Path) -> None:
    address = f"postgresql://agent:hunter2@/none?host={tmp_path}"  # pragma: allowlist secret
    with pytest.raises(MemoryUnavailable) as refused:
        Memory.open(address)
    assert "hunter2" not in str(refused.value)
    assert "postgresql" in str(refused.value)
