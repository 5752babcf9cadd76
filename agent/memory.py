"""What the agent remembers, in a database: releases, their history, and which agent acts.

Every change is a compare-and-set on the release's revision, in one transaction with its journal
entry, its notices and the check that we still lead. The engine is synchronous and lives in one
thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from agent.database import MemoryUnavailable, first_line, in_order, now_s, open_engine
from agent.database import events as _events
from agent.database import leader as _leader
from agent.database import notices as _notices
from agent.database import releases as _releases
from agent.moments import iso
from agent.release import Change, Release
from mlops.contracts.release import ReleaseEvent

__all__ = ["Kept", "Memory", "MemoryUnavailable", "NotLeader", "Outdated", "RouteTaken"]

T = TypeVar("T")

MAX_PENDING = 64
"""Calls waiting for the one thread; each takes about a millisecond. Past this we refuse."""

MAX_LISTED = 500
"""Releases or events in one answer."""

NEXT_S = 0.001
"""Between two releases of a route whose moments cannot tell which was first."""

LEADER = "agent"

CLOCK_NOISE_S = 1.0
"""What a clock may be put back by while nobody notices."""


class Outdated(Exception):
    """Somebody else changed the release since it was read; read it again."""


class NotLeader(Exception):
    """Another agent acts now."""


class RouteTaken(Exception):
    """The route already has a release that has not ended."""

    def __init__(self, release_id: str) -> None:
        super().__init__(release_id)
        self.release_id = release_id


@dataclass(frozen=True, slots=True)
class Kept:
    """A release as read, with the revision that a change must name."""

    release: Release
    revision: int


class Memory:
    """All methods but `open` run the database in its own thread and can be awaited."""

    def __init__(self, engine: Engine, targets: Sequence[str] = ()) -> None:
        """`targets` name who is told of each transition."""
        self._engine = engine
        self.targets = tuple(targets)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="memory")
        self._pending = 0

    @classmethod
    def open(cls, url: str, targets: Sequence[str] = ()) -> Memory:
        """Connect and create what is missing. Blocks: at start only.

        Raises:
            MemoryUnavailable: the database cannot be opened.
        """
        return cls(open_engine(url), targets)

    async def close(self) -> None:
        """Let the database go; ends the thread."""
        await self._run_in_thread(self._engine.dispose)
        self._thread.shutdown(wait=True)

    # ---- leading -------------------------------------------------------------------------------

    async def lead(self, holder: str, ttl_s: float) -> bool:
        """Take or keep the leader's lease; False while another holds it.

        The database's clock decides, so agents with wrong clocks agree. A lease that ends later
        than one taken now was dated before that clock was set back, and holds nobody.
        """

        def act(connection: Connection) -> bool:
            now = now_s(connection)
            ends_at = _leader.c.expires_at_s
            is_over = (ends_at <= now) | (ends_at > now + ttl_s + CLOCK_NOISE_S)
            free = (_leader.c.holder == holder) | is_over
            taken = connection.execute(
                sa.update(_leader)
                .where(_leader.c.name == LEADER, free)
                .values(holder=holder, expires_at_s=now + ttl_s)
            )
            if taken.rowcount:
                return True
            known = connection.execute(sa.select(_leader.c.holder)).first()
            if known is not None:
                return False
            connection.execute(
                sa.insert(_leader).values(name=LEADER, holder=holder, expires_at_s=now + ttl_s)
            )
            return True

        try:
            return await self.transact(act)
        except Outdated:  # two agents inserted the first lease at once
            return False

    async def resign(self, holder: str) -> None:
        """Let another agent lead at once."""

        def act(connection: Connection) -> None:
            connection.execute(sa.delete(_leader).where(_leader.c.holder == holder))

        await self.transact(act)

    # ---- releases ------------------------------------------------------------------------------

    async def create(self, release: Release, change: Change, at_s: float) -> None:
        """Remember a new release.

        Raises:
            RouteTaken: its route has one that has not ended.
        """

        def act(connection: Connection) -> None:
            active = None if release.phase.is_ended else release.route
            latest_s = connection.scalar(
                sa.select(sa.func.max(_releases.c.started_at_s)).where(
                    _releases.c.route == release.route
                )
            )
            taken = connection.execute(
                sa.select(_releases.c.id).where(_releases.c.active_route == release.route)
            ).first()
            if active is not None and taken is not None:
                raise RouteTaken(str(taken.id))
            connection.execute(
                sa.insert(_releases).values(
                    id=release.id,
                    route=release.route,
                    active_route=active,
                    revision=1,
                    # The newest of its route, whatever the clocks of those who started them said:
                    started_at_s=max(release.started_at_s, (latest_s or 0.0) + NEXT_S),
                    body=msgspec.json.encode(release),
                )
            )
            self.note(connection, release.id, release.route, change, at_s)

        try:
            await self.transact(act)
        except Outdated as error:  # another agent created one at this moment
            raise RouteTaken("one that was started just now") from error

    async def change(
        self,
        release: Release,
        change: Change | None,
        *,
        revision: int,
        at_s: float,
        leader: str | None,
    ) -> int:
        """Compare and set; returns the new revision. With `leader`, only while it leads.

        Raises:
            Outdated: the release is not at `revision` any more.
            NotLeader: another agent acts now.
        """

        def act(connection: Connection) -> int:
            if leader is not None:
                check_leader(connection, leader)
            done = connection.execute(
                sa.update(_releases)
                .where(_releases.c.id == release.id, _releases.c.revision == revision)
                .values(
                    active_route=None if release.phase.is_ended else release.route,
                    revision=revision + 1,
                    body=msgspec.json.encode(release),
                )
            )
            if not done.rowcount:
                raise Outdated(release.id)
            if change is not None:
                self.note(connection, release.id, release.route, change, at_s)
            return revision + 1

        return await self.transact(act)

    async def get(self, release_id: str) -> Kept | None:
        """The release of that id."""
        found = await self._select(_select().where(_releases.c.id == release_id))
        return found[0] if found else None

    async def newest(self) -> list[Kept]:
        """The newest release of each route: what a cycle looks after."""
        latest = (
            sa.select(_releases.c.route, sa.func.max(_releases.c.started_at_s).label("at"))
            .group_by(_releases.c.route)
            .subquery()
        )
        found = await self._select(
            _select().join(
                latest,
                (_releases.c.route == latest.c.route) & (_releases.c.started_at_s == latest.c.at),
            )
        )
        return list({kept.release.route: kept for kept in found}.values())

    async def recent(self, limit: int = MAX_LISTED) -> list[Kept]:
        """Newest first."""
        return await self._select(
            _select().order_by(_releases.c.started_at_s.desc()).limit(min(limit, MAX_LISTED))
        )

    async def events(
        self, *, release_id: str | None = None, after: int = 0, limit: int = MAX_LISTED
    ) -> list[ReleaseEvent]:
        """Oldest first, from the one after sequence number `after`."""
        query = sa.select(_events.c.sequence, _events.c.body).where(_events.c.sequence > after)
        if release_id is not None:
            query = query.where(_events.c.release_id == release_id)
        query = query.order_by(_events.c.sequence).limit(min(limit, MAX_LISTED))

        def act(connection: Connection) -> list[ReleaseEvent]:
            return [event_of(row) for row in connection.execute(query)]

        return await self.transact(act)

    async def last_sequence(self) -> int:
        """Number of the newest entry of the journal; 0 where there is none."""

        def act(connection: Connection) -> int:
            return int(connection.scalar(sa.select(sa.func.max(_events.c.sequence))) or 0)

        return await self.transact(act)

    # ---- how -----------------------------------------------------------------------------------

    def note(
        self, connection: Connection, release_id: str, route: str, change: Change, at_s: float
    ) -> None:
        """Within a transaction: an entry of the journal, and a notice to everybody of it."""
        in_order(connection)
        event = ReleaseEvent(
            sequence=0,
            release_id=release_id,
            route=route,
            at=iso(at_s),
            kind=change.kind,
            actor=change.actor,
            from_share_bp=change.from_share_bp,
            to_share_bp=change.to_share_bp,
            reason=change.reason,
            detail=change.detail,
        )
        added = connection.execute(
            sa.insert(_events)
            .values(release_id=release_id, route=route, at_s=at_s, body=msgspec.json.encode(event))
            .returning(_events.c.sequence)
        )
        sequence = added.scalar_one()
        for target in self.targets if change.is_transition else ():
            notice = {"target": target, "sequence": sequence, "attempts": 0, "next_at_s": at_s}
            connection.execute(sa.insert(_notices).values(notice))

    async def _select(self, query: sa.Select[Any]) -> list[Kept]:
        def act(connection: Connection) -> list[Kept]:
            return [
                Kept(msgspec.json.decode(row.body, type=Release), row.revision)
                for row in connection.execute(query)
            ]

        return await self.transact(act)

    async def transact(self, act: Callable[[Connection], T]) -> T:
        """Run `act` in one transaction. Raises MemoryUnavailable, and Outdated on a conflict."""

        def run() -> T:
            try:
                with self._engine.begin() as connection:
                    return act(connection)
            except IntegrityError as error:
                raise Outdated(first_line(error)) from error
            except SQLAlchemyError as error:
                raise MemoryUnavailable(f"memory: {first_line(error)}") from error

        return await self._run_in_thread(run)

    async def _run_in_thread(self, run: Callable[[], T]) -> T:
        if self._pending >= MAX_PENDING:
            raise MemoryUnavailable(f"memory: {MAX_PENDING} calls are waiting already")
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, run)
        finally:
            self._pending -= 1


def _select() -> sa.Select[Any]:
    return sa.select(_releases.c.body, _releases.c.revision)


def event_of(row: Any) -> ReleaseEvent:
    """From a row with the sequence number and the body of an entry."""
    event = msgspec.json.decode(row.body, type=ReleaseEvent)
    return msgspec.structs.replace(event, sequence=row.sequence)


def check_leader(connection: Connection, holder: str) -> None:
    """Within a transaction. Raises NotLeader: another agent acts now."""
    held = connection.execute(
        sa.select(_leader.c.holder)
        .where(_leader.c.holder == holder, _leader.c.expires_at_s > now_s(connection))
        .with_for_update(read=True)  # nobody takes over before this is committed
    ).first()
    if held is None:
        raise NotLeader(holder)
