"""Who may do what on a real server, as statements for its administrator. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from mlops.feature_store.cluster import SHARDED_BY
from mlops.feature_store.tables import (
    COMPLETENESS,
    DEAD_LETTERS,
    EMBEDDING_BATCHES,
    EMBEDDING_SUMS,
    EVALUATIONS,
    MIGRATIONS,
    PERFORMANCE,
    RELEASE_EVENTS,
    ROWS,
    SECOND_BATCHES,
    SECONDS,
    TALLIES,
)

READ_SECONDS: Final = 60
"""Longest query of a reader: a dashboard that asks for more is better narrowed."""


class Role(NamedTuple):
    """`selects` and `inserts` are tables; `queries_per_minute` bounds a program gone wild."""

    name: str
    selects: tuple[str, ...]
    inserts: tuple[str, ...]
    queries_per_minute: int


_ALL = (
    ROWS,
    SECOND_BATCHES,
    SECONDS,
    EMBEDDING_BATCHES,
    EMBEDDING_SUMS,
    TALLIES,
    EVALUATIONS,
    RELEASE_EVENTS,
    DEAD_LETTERS,
    PERFORMANCE,
    COMPLETENESS,
    MIGRATIONS,
)

ROLES: Final = (
    # Recorders, which look whether a batch is stored and counted and how complete the log is, and
    # whatever stores features, scores and hours of performance from Python.
    Role(
        "writer",
        (ROWS, SECOND_BATCHES, EMBEDDING_BATCHES, TALLIES, PERFORMANCE, MIGRATIONS),
        (
            ROWS,
            SECOND_BATCHES,
            EMBEDDING_BATCHES,
            TALLIES,
            DEAD_LETTERS,
            EVALUATIONS,
            PERFORMANCE,
        ),
        6_000,
    ),
    Role(
        "agent",
        (
            ROWS,
            SECOND_BATCHES,
            SECONDS,
            EMBEDDING_BATCHES,
            TALLIES,
            EVALUATIONS,
            RELEASE_EVENTS,
            MIGRATIONS,
        ),
        (EVALUATIONS, RELEASE_EVENTS),
        6_000,
    ),
    # Dashboards, and training that only reads.
    Role("reader", _ALL, (), 1_200),
)
"""What each part of the system needs and no more. The fourth role, `admin`, may do everything in
the database, and makes it: `rag-mlops migrate`."""


def role_statements(database: str, cluster: str = "", prefix: str = "rag_mlops") -> tuple[str, ...]:
    """Statements that make the roles and their quotas; each can be repeated.

    Granting a role to a user is left to whoever names the users. On a cluster they are for all of
    its servers, and for the tables beneath the Distributed ones, which a query reaches as its user.
    """
    everywhere = f" ON CLUSTER '{cluster}'" if cluster else ""
    grant = f"GRANT{everywhere}"
    made: list[str] = []
    for role in ROLES:
        name = f"{prefix}_{role.name}"
        made.append(f"CREATE ROLE IF NOT EXISTS {name}{everywhere}")
        for right, tables in (("SELECT", role.selects), ("INSERT", role.inserts)):
            made += [
                f"{grant} {right} ON `{database}`.{table} TO {name}"
                for table in _placed(tables, cluster)
            ]
        made.append(
            f"CREATE QUOTA IF NOT EXISTS {name}{everywhere} KEYED BY user_name "
            f"FOR INTERVAL 1 minute MAX queries = {role.queries_per_minute} TO {name}"
        )
    made.append(
        f"CREATE SETTINGS PROFILE IF NOT EXISTS {prefix}_reader{everywhere} "
        f"SETTINGS max_execution_time = {READ_SECONDS}, readonly = 2 TO {prefix}_reader"
    )
    made.append(f"CREATE ROLE IF NOT EXISTS {prefix}_admin{everywhere}")
    made.append(f"{grant} ALL ON `{database}`.* TO {prefix}_admin")
    return tuple(made)


def _placed(tables: tuple[str, ...], cluster: str) -> tuple[str, ...]:
    """And what lies beneath those that are tables."""
    beneath = (f"{table}_local" for table in tables if table in SHARDED_BY)
    return (*tables, *beneath) if cluster else tables
