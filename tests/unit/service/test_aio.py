"""What blocks in a thread, and who waits for it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from mlops.service.aio import in_thread_of_its_own


async def test_the_result_comes_back() -> None:
    assert await in_thread_of_its_own(lambda: 7, name="seven") == 7


async def test_what_it_raises_comes_back() -> None:
    def fail() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        await in_thread_of_its_own(fail, name="fail")


def test_the_end_of_the_loop_waits_for_no_call_that_was_given_up() -> None:
    """Else a rollback at night would sit there for as long as MLflow hangs."""
    begun, may_end = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        may_end.wait(60)

    async def give_up() -> None:
        task = asyncio.ensure_future(in_thread_of_its_own(block, name="blocks"))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())

    blocked = next(one for one in threading.enumerate() if one.name == "blocks")
    assert blocked.daemon, "nor does the end of the process"
    may_end.set()
    blocked.join(10)
    assert not blocked.is_alive()
