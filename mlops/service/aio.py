"""Tasks that are named, kept and watched."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")

log = logging.getLogger(__name__)

_running: set[asyncio.Task[None]] = set()
"""asyncio keeps only weak references to tasks; bounded by what callers spawn."""


def spawn(coroutine: Coroutine[object, object, None], *, name: str) -> asyncio.Task[None]:
    """Run `coroutine` in the background; a failure is logged with its name, never lost."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


async def in_thread_of_its_own(call: Callable[[], T], *, name: str) -> T:
    """Run what blocks, and may do so for minutes: who stops waiting is rid of it.

    With `asyncio.to_thread` the end of `asyncio.run` would still wait for the call.
    """
    found: Future[T] = Future()

    def run() -> None:
        found.set_running_or_notify_cancel()  # from here on a cancelled caller leaves it alone
        try:
            found.set_result(call())
        except BaseException as error:
            found.set_exception(error)

    Thread(target=run, name=name, daemon=True).start()
    return await asyncio.wrap_future(found)


def tasks_of(loop: asyncio.AbstractEventLoop) -> int:
    """How many tasks have not ended; from any thread."""
    return len(asyncio.all_tasks(loop))


def _ended(task: asyncio.Task[None]) -> None:
    _running.discard(task)
    if not task.cancelled() and (failure := task.exception()) is not None:
        log.error("task %s failed: %s", task.get_name(), failure, exc_info=failure)
