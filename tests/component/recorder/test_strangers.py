"""What lies in a spool and is not ours: directories of others, and records that say nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.record import ExchangeRecord

Exchange = Callable[..., ExchangeRecord]


async def test_a_record_that_does_not_even_say_when_is_a_dead_letter_of_now(
    harness: Any, exchange: Exchange
) -> None:
    before = datetime.now(UTC)
    writer = harness.writer()
    assert writer.offer(exchange("good"))
    assert writer._append(bytearray(msgspec.msgpack.encode([2, 1, "of another program"])))
    async with harness.recording():
        await harness.until(lambda: bool(harness.log.all_letters()))
    (letter,) = harness.log.all_letters()
    assert before <= letter.at <= datetime.now(UTC)


async def test_directories_of_others_in_the_spool_stay_as_they_are(
    harness: Any, exchange: Exchange
) -> None:
    """Taken for a worker that is gone, one would be read to its end and removed."""
    stranger = harness.spool / "gateway"
    stranger.mkdir(parents=True)
    (stranger / "plan-rag.json").write_text("{}")
    writer = harness.writer()
    assert writer.offer(exchange("r0"))
    writer.close()
    async with harness.recording() as recorder:
        await harness.until(lambda: not (harness.spool / writer.worker).exists())
        recorder.drain(5.0)
        await harness.until(recorder._stopping.is_set)
    assert [path.name for path in stranger.iterdir()] == ["plan-rag.json"]
