"""Deadlines as data: one coarse sweep over what has one, instead of a timer for each request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

NEVER: Final = 1 << 62
"""A deadline that does not come: 146 years of monotonic nanoseconds."""

CLIENT_IDLE_NS: Final = 75_000_000_000
"""An idle client connection, as in nginx; longer than the 60 s that most client pools keep one."""

SWEEP_S: Final = 0.1
"""How late a deadline may be noticed. A sweep of 10,000 connections takes about half a ms."""


class HasDeadline(Protocol):
    """What the sweep looks at: a moment in monotonic nanoseconds, or `NEVER`."""

    deadline_ns: int


T = TypeVar("T", bound=HasDeadline)


class Deadlines(Generic[T]):
    """Everything that can time out, in order of insertion. Setting a deadline is an assignment."""

    __slots__ = ("_items",)

    def __init__(self) -> None:
        self._items: dict[T, None] = {}

    def add(self, item: T) -> None:
        """Look at its deadline from now on."""
        self._items[item] = None

    def discard(self, item: T) -> None:
        """No longer; nothing where it is not known."""
        self._items.pop(item, None)

    def expired(self, now_ns: int) -> list[T]:
        """Those whose deadline has passed; a list, so that ending one may discard it."""
        return [item for item in self._items if item.deadline_ns <= now_ns]

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._items))

    def __len__(self) -> int:
        return len(self._items)
