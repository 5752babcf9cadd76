"""Between two gateways at an upgrade: one of them serves, whichever of them is slow."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway import handover
from gateway.counts import Counts
from gateway.handover import Handover, Predecessor, Successor, UpgradeFailed

NOTHING = Handover(plans=(), sockets=(), counts=Counts())


@asynccontextmanager
async def met(directory: Path) -> AsyncIterator[tuple[Predecessor, Successor]]:
    """Both ends, after everything was given: each as the other process sees it."""
    with handover.listen(directory) as listening:
        finding = asyncio.ensure_future(Predecessor.find(directory))
        connection = await Successor.accept(listening)
        lock = os.open(directory, os.O_RDONLY)
        try:
            successor = await Successor.give(connection, NOTHING, [lock])
        finally:
            os.close(lock)
        predecessor = await finding
    os.close(predecessor.lock)
    try:
        yield predecessor, successor
    finally:
        for each in (predecessor, successor):
            each._channel.close()
            await each._channel._writer.wait_closed()


async def test_a_predecessor_that_was_stopped_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its word may come as late as it would wait itself: then it serves no more."""
    async with met(tmp_path) as (predecessor, successor):
        monkeypatch.setattr(handover, "_SEND_S", 0.05)
        releasing = asyncio.ensure_future(predecessor.release())
        await successor.serves()
        await asyncio.sleep(0.2)  # stopped, and for longer than a message takes
        assert not releasing.done()
        await successor.take_over()
        await releasing
        await successor.tell(Counts())
        assert await predecessor.last_counts() == Counts()


async def test_a_predecessor_that_gives_no_answer_keeps_the_ports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with met(tmp_path) as (predecessor, successor):
        monkeypatch.setattr(handover, "_SEND_S", 0.0)
        monkeypatch.setattr(handover, "HANDOVER_S", 0.05)
        with pytest.raises(UpgradeFailed, match="did not let go in time, and serves on"):
            await predecessor.release()
        await successor.tell(Counts())


async def test_a_successor_that_never_serves_is_told_that_it_was_abandoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with met(tmp_path) as (predecessor, successor):
        monkeypatch.setattr(handover, "HANDOVER_S", 0.05)
        with pytest.raises(UpgradeFailed, match=r"did not serve within 0\.05 s"):
            await successor.serves()
        monkeypatch.setattr(handover, "HANDOVER_S", 5.0)
        with pytest.raises(UpgradeFailed, match="did not let go in time"):
            await predecessor.release()
