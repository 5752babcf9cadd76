"""What is remembered of drift, in the agent's database: one entry a route."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.database import drift as _drift
from agent.drift import DriftMemory
from agent.memory import Memory, Outdated, check_leader
from agent.release import Change


@dataclass(frozen=True, slots=True)
class KeptDrift:
    """As read, with the revision that a change must name; 0 where there is none yet."""

    memory: DriftMemory
    revision: int


class DriftStore:
    """Compare and set, in one transaction with the journal and its notices."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def all(self) -> dict[str, KeptDrift]:
        """By route. Raises MemoryUnavailable."""

        def act(connection: Connection) -> dict[str, KeptDrift]:
            found = connection.execute(sa.select(_drift.c.body, _drift.c.revision))
            kept = [
                KeptDrift(msgspec.json.decode(row.body, type=DriftMemory), row.revision)
                for row in found
            ]
            return {one.memory.route: one for one in kept}

        return await self._memory.transact(act)

    async def set(
        self, memory: DriftMemory, changes: tuple[Change, ...], *, revision: int, at_s: float,
        leader: str | None,
    ) -> None:  # fmt: skip
        """With `leader`, only while it leads.

        Raises:
            Outdated: it is not at `revision` any more.
            NotLeader: another agent acts now.
            MemoryUnavailable: the database does not answer.
        """
        values = {"revision": revision + 1, "body": msgspec.json.encode(memory)}

        def act(connection: Connection) -> None:
            if leader is not None:
                check_leader(connection, leader)
            if revision:
                done = connection.execute(
                    sa.update(_drift)
                    .where(_drift.c.route == memory.route, _drift.c.revision == revision)
                    .values(values)
                )
                if not done.rowcount:
                    raise Outdated(memory.route)
            else:
                connection.execute(sa.insert(_drift).values(route=memory.route, **values))
            for change in changes:
                self._memory.note(connection, "", memory.route, change, at_s)

        await self._memory.transact(act)
