"""Several chunks at a time, in a bounded amount of memory, and word of how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event, Lock, Semaphore
from typing import Final, TypeVar

PARALLEL_CHUNKS: Final = 4
"""On their way at a time: 32 MiB of content in memory, and as much again where it is compressed."""

A = TypeVar("A")
B = TypeVar("B")

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all, from several threads, one at a time."""


class Told:
    """Adds up what is done, and says so one call at a time."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._lock = Lock()

    def done(self, size: int) -> None:
        """So many bytes more."""
        with self._lock:
            self._done += size
            if self._progress is not None:
                self._progress(self._done, self._total)


def in_parallel(work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Results in order; at most `PARALLEL_CHUNKS` items are taken that are not done yet.

    Once one has failed no more are taken; its exception is raised in its place.
    """
    room = Semaphore(PARALLEL_CHUNKS)
    failed = Event()

    def one(item: A) -> B:
        try:
            return work(item)
        except BaseException:
            failed.set()
            raise
        finally:
            room.release()

    with ThreadPoolExecutor(PARALLEL_CHUNKS) as pool:
        pending: list[Future[B]] = []
        for item in items:
            room.acquire()
            if failed.is_set():
                break
            pending.append(pool.submit(one, item))
        for future in pending:
            yield future.result()
