"""A recorder whose spool goes away with it reads on before it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.record import ExchangeRecord

Exchange = Callable[..., ExchangeRecord]


async def test_draining_reads_on_until_the_worker_has_ended_and_all_is_stored(
    harness: Any, exchange: Exchange
) -> None:
    writer = harness.writer()
    offer(writer, exchange, 100)
    harness.log.away_before = 10**9
    async with harness.recording() as recorder:
        await harness.until(lambda: bool(harness.log.calls))
        recorder.drain(60.0)
        offer(writer, exchange, 50)
        harness.log.away_before = 0
        await harness.until(lambda: len(harness.log.request_ids()) == 150)
        assert not recorder._stopping.is_set(), "the worker may still write"
        writer.close()
        await harness.until(recorder._stopping.is_set)
    assert not (harness.spool / writer.worker).exists()
    assert harness.log.all_tallies()[-1].final


@pytest.mark.parametrize("ends", [lambda one: one.drain(60.0), lambda one: one.drain(0.0)])
async def test_draining_ends_when_it_is_asked_again_or_its_time_is_over(
    harness: Any, exchange: Exchange, ends: Callable[[Any], None]
) -> None:
    offer(harness.writer(), exchange, 1)
    async with harness.recording() as recorder:
        recorder.drain(60.0)
        ends(recorder)
        await harness.until(recorder._stopping.is_set)
    async with harness.recording() as recorder:
        recorder.drain(0.01)
        await harness.until(recorder._stopping.is_set)


def offer(writer: Any, exchange: Exchange, count: int) -> None:
    for number in range(count):
        assert writer.offer(exchange(f"{count}-{number}")), writer.dropped
