"""The agent's database: its tables, how it is opened, and whose clock leads.

SQLite on one machine, PostgreSQL for several agents. Blocking; `memory` runs it in a thread.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another process's transaction."""

CONNECT_TIMEOUT_S = 5
"""A database that does not take a connection within this is away."""

JOURNAL_LOCK = 0x72_61_67_6D
"""PostgreSQL's advisory lock around an entry of the journal: numbers are then seen in order."""

_tables = sa.MetaData()

releases = sa.Table(
    "releases",
    _tables,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("route", sa.String(255), nullable=False, index=True),
    sa.Column("active_route", sa.String(255), unique=True),  # NULL once ended: one at a time
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("started_at_s", sa.Double, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
events = sa.Table(
    "release_events",
    _tables,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("release_id", sa.String(64), nullable=False, index=True),
    sa.Column("route", sa.String(255), nullable=False),
    sa.Column("at_s", sa.Double, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sqlite_autoincrement=True,  # a sequence number is never used twice
)
notices = sa.Table(
    "notices",
    _tables,
    sa.Column("target", sa.String(64), primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at_s", sa.Double, nullable=False, index=True),
)
drift = sa.Table(
    "drift",
    _tables,
    sa.Column("route", sa.String(255), primary_key=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
leader = sa.Table(
    "leader",
    _tables,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("holder", sa.String(128), nullable=False),
    sa.Column("expires_at_s", sa.Double, nullable=False),
)


class MemoryUnavailable(Exception):
    """The database does not answer; nothing was remembered, or it is unknown. Try again."""


def open_engine(url: str) -> Engine:
    """Connect and create what is missing.

    Raises:
        MemoryUnavailable: the database cannot be opened; never shows a password.
    """
    try:
        address = sa.engine.make_url(url)
        if address.drivername in ("postgres", "postgresql"):
            address = address.set(drivername="postgresql+psycopg")
    except (SQLAlchemyError, ValueError) as error:
        raise MemoryUnavailable("memory: expected an SQLAlchemy address of a database") from error
    try:
        engine = _sqlite(address) if address.drivername.startswith("sqlite") else _server(address)
        _create_tables(engine)
    except (SQLAlchemyError, ImportError, OSError) as error:
        shown = address.render_as_string(hide_password=True)
        raise MemoryUnavailable(f"memory {shown}: {first_line(error)}") from error
    return engine


def _sqlite(address: sa.engine.URL) -> Engine:
    _make_private(address.database)
    engine = sa.create_engine(address, connect_args={"timeout": BUSY_TIMEOUT_S})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_immediate)
    return engine


def _server(address: sa.engine.URL) -> Engine:
    arguments: dict[str, Any] = {}
    if address.drivername.startswith("postgresql"):
        limit_ms = int(BUSY_TIMEOUT_S * 1000)
        arguments = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "options": f"-c statement_timeout={limit_ms} -c lock_timeout={limit_ms}",
        }
    return sa.create_engine(address, connect_args=arguments, pool_pre_ping=True)


def _create_tables(engine: Engine) -> None:
    try:
        _tables.create_all(engine)
    except SQLAlchemyError:  # another agent creates them at this moment
        _tables.create_all(engine)


def now_s(connection: Connection) -> sa.ColumnElement[float]:
    """The database's own clock, Unix seconds: agents whose clocks differ agree on who leads."""
    if connection.dialect.name == "postgresql":
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)
    return sa.literal_column("(julianday('now') - 2440587.5) * 86400.0", sa.Double)


def in_order(connection: Connection) -> None:
    """Wait for the journal: else an entry could be seen before one with a smaller number."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(JOURNAL_LOCK)))


def first_line(error: Exception) -> str:
    """SQLAlchemy appends the statement and its values, which may be anything."""
    cause = getattr(error, "orig", None) or error
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__


def _make_private(database: str | None) -> None:
    """Plans may carry an upstream's credentials in their headers."""
    if database and database != ":memory:":
        path = Path(database)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)


def _begin_immediate(connection: Connection) -> None:
    """Nobody else writes between what a transaction reads and what it writes."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(
        "PRAGMA synchronous=FULL"
    )  # intent must survive a power cut before it is acted on
    cursor.close()
