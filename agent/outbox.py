"""Notices that wait to be delivered, filled in the transaction that remembers the transition."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.database import events as _events
from agent.database import notices as _notices
from agent.memory import Memory, event_of
from mlops.contracts.release import ReleaseEvent

MAX_WAIT_S = 300.0
"""Longest that a notice waits between two attempts."""


@dataclass(frozen=True, slots=True)
class Due:
    """A notice to deliver now, and how often that was tried."""

    target: str
    event: ReleaseEvent
    attempts: int


class Outbox:
    """Those of the memory's targets; all methods raise MemoryUnavailable."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._is_ours = _notices.c.target.in_(memory.targets)

    async def due(self, at_s: float, limit: int) -> list[Due]:
        """Notices whose next attempt is at `at_s` or before, oldest first.

        One that is to wait for longer than any does was put off by a clock that was ahead.
        """
        next_at_s = _notices.c.next_at_s
        is_due = (next_at_s <= at_s) | (next_at_s > at_s + MAX_WAIT_S)
        query = (
            sa.select(_notices.c.target, _notices.c.attempts, _events.c.sequence, _events.c.body)
            .join(_events, _events.c.sequence == _notices.c.sequence)
            .where(is_due, self._is_ours)
            .order_by(_notices.c.sequence)
            .limit(limit)
        )

        def act(connection: Connection) -> list[Due]:
            rows = connection.execute(query)
            return [Due(row.target, event_of(row), row.attempts) for row in rows]

        return await self._memory.transact(act)

    async def told(self, target: str, sequence: int) -> None:
        """That notice is done with."""
        await self._execute(sa.delete(_notices).where(_is(target, sequence)))

    async def tell_later(self, target: str, sequence: int, next_at_s: float) -> None:
        """Count a failed attempt, and when to try again."""
        again = {"attempts": _notices.c.attempts + 1, "next_at_s": next_at_s}
        await self._execute(sa.update(_notices).where(_is(target, sequence)).values(**again))

    async def untold(self) -> int:
        """Notices that wait. Those to a target that the file names no more wait for nobody."""
        count = sa.select(sa.func.count()).select_from(_notices).where(self._is_ours)
        return await self._memory.transact(lambda connection: connection.scalar(count) or 0)

    async def _execute(self, statement: sa.Executable) -> None:
        def act(connection: Connection) -> None:
            connection.execute(statement)

        await self._memory.transact(act)


def _is(target: str, sequence: int) -> sa.ColumnElement[bool]:
    return (_notices.c.target == target) & (_notices.c.sequence == sequence)
