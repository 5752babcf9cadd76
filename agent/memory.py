"""What the agent remembers, in a database: releases, their history, and which agent acts.

Every change is a compare-and-set on the release's revision, in one transaction with its journal
entry and with the check that we still lead. The engine is synchronous and lives in one thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from agent.moments import iso
from agent.release import Change, Release
from mlops.contracts.release import ReleaseEvent

T = TypeVar("T")

MAX_PENDING = 64
"""Calls waiting for the one thread; each takes about a millisecond. Past this we refuse."""

BUSY_TIMEOUT_S = 5.0
"""How long SQLite waits for another process's transaction."""

MAX_LISTED = 500
"""Releases or events in one answer."""

_tables = sa.MetaData()

_releases = sa.Table(
    "releases",
    _tables,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("route", sa.String(255), nullable=False, index=True),
    sa.Column("active_route", sa.String(255), unique=True),  # NULL once ended: one at a time
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("started_at_s", sa.Double, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
_events = sa.Table(
    "release_events",
    _tables,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("release_id", sa.String(64), nullable=False, index=True),
    sa.Column("route", sa.String(255), nullable=False),
    sa.Column("at_s", sa.Double, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sqlite_autoincrement=True,  # a sequence number is never used twice
)
_leader = sa.Table(
    "leader",
    _tables,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("holder", sa.String(128), nullable=False),
    sa.Column("expires_at_s", sa.Double, nullable=False),
)

LEADER = "agent"


class MemoryUnavailable(Exception):
    """The database does not answer; nothing was remembered, or it is unknown. Try again."""


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

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="memory")
        self._pending = 0

    @classmethod
    def open(cls, url: str) -> Memory:
        """Connect and create what is missing. Blocks: at start only.

        Raises:
            MemoryUnavailable: the database cannot be opened.
        """
        is_sqlite = url.startswith("sqlite")
        arguments: dict[str, Any] = {"timeout": BUSY_TIMEOUT_S} if is_sqlite else {}
        try:
            if is_sqlite:
                _make_private(sa.engine.make_url(url).database)
            engine = sa.create_engine(url, connect_args=arguments, pool_pre_ping=not is_sqlite)
            if is_sqlite:
                sa.event.listen(engine, "connect", _prepare_sqlite)
            _tables.create_all(engine)
        except (SQLAlchemyError, ImportError, OSError) as error:
            shown = sa.engine.make_url(url).render_as_string(hide_password=True)
            raise MemoryUnavailable(f"memory {shown}: {_first_line(error)}") from error
        return cls(engine)

    async def close(self) -> None:
        await self._run_in_thread(self._engine.dispose)
        self._thread.shutdown(wait=True)

    # ---- leading -------------------------------------------------------------------------------

    async def lead(self, holder: str, now_s: float, ttl_s: float) -> bool:
        """Take or keep the leader's lease; False while another holds it."""

        def act(connection: Connection) -> bool:
            free = (_leader.c.holder == holder) | (_leader.c.expires_at_s <= now_s)
            taken = connection.execute(
                sa.update(_leader)
                .where(_leader.c.name == LEADER, free)
                .values(holder=holder, expires_at_s=now_s + ttl_s)
            )
            if taken.rowcount:
                return True
            known = connection.execute(sa.select(_leader.c.holder)).first()
            if known is not None:
                return False
            connection.execute(
                sa.insert(_leader).values(name=LEADER, holder=holder, expires_at_s=now_s + ttl_s)
            )
            return True

        try:
            return await self._transact(act)
        except Outdated:  # two agents inserted the first lease at once
            return False

    async def resign(self, holder: str) -> None:
        """Let another agent lead at once."""

        def act(connection: Connection) -> None:
            connection.execute(sa.delete(_leader).where(_leader.c.holder == holder))

        await self._transact(act)

    # ---- releases ------------------------------------------------------------------------------

    async def create(self, release: Release, change: Change, now_s: float) -> None:
        """Remember a new release.

        Raises:
            RouteTaken: its route has one that has not ended.
        """

        def act(connection: Connection) -> None:
            active = None if release.phase.is_ended else release.route
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
                    started_at_s=release.started_at_s,
                    body=msgspec.json.encode(release),
                )
            )
            _journal(connection, release, change, now_s)

        await self._transact(act)

    async def change(
        self,
        release: Release,
        change: Change | None,
        *,
        revision: int,
        now_s: float,
        leader: str | None,
    ) -> int:
        """Compare and set; returns the new revision. With `leader`, only while it leads.

        Raises:
            Outdated: the release is not at `revision` any more.
            NotLeader: another agent acts now.
        """

        def act(connection: Connection) -> int:
            if leader is not None:
                held = connection.execute(
                    sa.select(_leader.c.holder).where(
                        _leader.c.holder == leader, _leader.c.expires_at_s > now_s
                    )
                ).first()
                if held is None:
                    raise NotLeader(leader)
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
                _journal(connection, release, change, now_s)
            return revision + 1

        return await self._transact(act)

    async def get(self, release_id: str) -> Kept | None:
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
            return [
                msgspec.structs.replace(
                    msgspec.json.decode(row.body, type=ReleaseEvent), sequence=row.sequence
                )
                for row in connection.execute(query)
            ]

        return await self._transact(act)

    async def last_sequence(self) -> int:
        def act(connection: Connection) -> int:
            return int(connection.scalar(sa.select(sa.func.max(_events.c.sequence))) or 0)

        return await self._transact(act)

    # ---- how -----------------------------------------------------------------------------------

    async def _select(self, query: sa.Select[Any]) -> list[Kept]:
        def act(connection: Connection) -> list[Kept]:
            return [
                Kept(msgspec.json.decode(row.body, type=Release), row.revision)
                for row in connection.execute(query)
            ]

        return await self._transact(act)

    async def _transact(self, act: Callable[[Connection], T]) -> T:
        def run() -> T:
            try:
                with self._engine.begin() as connection:
                    return act(connection)
            except IntegrityError as error:
                raise Outdated(_first_line(error)) from error
            except SQLAlchemyError as error:
                raise MemoryUnavailable(f"memory: {_first_line(error)}") from error

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


def _journal(connection: Connection, release: Release, change: Change, now_s: float) -> None:
    event = ReleaseEvent(
        sequence=0,
        release_id=release.id,
        route=release.route,
        at=iso(now_s),
        kind=change.kind,
        actor=change.actor,
        from_share_bp=change.from_share_bp,
        to_share_bp=change.to_share_bp,
        reason=change.reason,
        detail=change.detail,
    )
    connection.execute(
        sa.insert(_events).values(
            release_id=release.id,
            route=release.route,
            at_s=now_s,
            body=msgspec.json.encode(event),
        )
    )


def _make_private(database: str | None) -> None:
    """Plans may carry an upstream's credentials in their headers."""
    if database and database != ":memory:":
        path = Path(database)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(
        "PRAGMA synchronous=FULL"
    )  # intent must survive a power cut before it is acted on
    cursor.close()


def _first_line(error: Exception) -> str:
    """SQLAlchemy appends the statement and its values, which may be anything."""
    cause = getattr(error, "orig", None) or error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__
