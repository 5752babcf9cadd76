"""Who may do what on a real server, as statements for its administrator. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

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
    for_whom: str
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
    Role(
        "writer",
        "recorders",
        # It looks whether a batch is stored and counted, and how complete the log is.
        (ROWS, SECOND_BATCHES, EMBEDDING_BATCHES, TALLIES, MIGRATIONS),
        (ROWS, SECOND_BATCHES, EMBEDDING_BATCHES, TALLIES, DEAD_LETTERS),
        6_000,
    ),
    Role(
        "agent",
        "the agent",
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
    Role("reader", "dashboards and training", _ALL, (PERFORMANCE, EVALUATIONS), 1_200),
)
"""What each part of the system needs and no more. The fourth role, `admin`, may do everything in
the database, and makes it: `rag-mlops migrate`."""


def role_statements(database: str, prefix: str = "rag_mlops") -> tuple[str, ...]:
    """Statements that make the roles and their quotas; each can be repeated.

    Granting a role to a user is left to whoever names the users.
    """
    made: list[str] = []
    for role in ROLES:
        name = f"{prefix}_{role.name}"
        made.append(f"CREATE ROLE IF NOT EXISTS {name}")
        made += [f"GRANT SELECT ON `{database}`.{table} TO {name}" for table in role.selects]
        made += [f"GRANT INSERT ON `{database}`.{table} TO {name}" for table in role.inserts]
        made.append(
            f"CREATE QUOTA IF NOT EXISTS {name} KEYED BY user_name "
            f"FOR INTERVAL 1 minute MAX queries = {role.queries_per_minute} TO {name}"
        )
    made.append(
        f"CREATE SETTINGS PROFILE IF NOT EXISTS {prefix}_reader "
        f"SETTINGS max_execution_time = {READ_SECONDS}, readonly = 2 TO {prefix}_reader"
    )
    made.append(f"CREATE ROLE IF NOT EXISTS {prefix}_admin")
    made.append(f"GRANT ALL ON `{database}`.* TO {prefix}_admin")
    return tuple(made)
