"""How long each table keeps what: read from one setting, applied to the tables. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from mlops.feature_store.tables import (
    DEAD_LETTERS,
    EMBEDDING_BATCHES,
    ERASURES,
    EVALUATIONS,
    PERFORMANCE,
    RELEASE_EVENTS,
    ROWS,
    SECOND_BATCHES,
    TALLIES,
)

EXPIRES_BY: Final[dict[str, str]] = {
    ROWS: "ended_at",
    SECOND_BATCHES: "second",
    EMBEDDING_BATCHES: "second",
    TALLIES: "second",
    EVALUATIONS: "received_at",
    RELEASE_EVENTS: "at",
    DEAD_LETTERS: "at",
    PERFORMANCE: "hour",
    ERASURES: "at",
}
"""The column that a row's age is counted from."""

MINIMUM_DAYS: Final = 2
"""Below it the evidence of a release under way could expire."""
MAXIMUM_DAYS: Final = 3660

_AGE = re.compile(r"(?P<days>[0-9]{1,4})d\Z")


def parse_retention(text: str) -> dict[str, int]:
    """`query_features=90d,tallies=30d` as days by table; a table not named keeps everything.

    Raises:
        ValueError: an unknown table, or not a number of days in 2..3660.
    """
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        table, _, age = (word.strip() for word in part.partition("="))
        if table not in EXPIRES_BY:
            raise ValueError(
                f"retention of {table!r}: expected one of {', '.join(sorted(EXPIRES_BY))}"
            )
        match = _AGE.match(age)
        if match is None or not MINIMUM_DAYS <= int(match["days"]) <= MAXIMUM_DAYS:
            raise ValueError(
                f"retention of {table}: expected {MINIMUM_DAYS}d to {MAXIMUM_DAYS}d, got {age!r}"
            )
        if table in found:
            raise ValueError(f"retention of {table} is given twice")
        found[table] = int(match["days"])
    return found


def retention_statements(days_of: Mapping[str, int], suffix: str = "") -> tuple[str, ...]:
    """Statements that make the tables forget rows older than so many days; each can be repeated.

    `suffix` comes after a table's name, on a cluster `_local ON CLUSTER 'x'`.
    """
    return tuple(
        f"ALTER TABLE {table}{suffix} MODIFY TTL {_age(table)}{days})"
        for table, days in sorted(days_of.items())
    )


def kept_again(
    days_of: Mapping[str, int], made: Mapping[str, str], suffix: str = ""
) -> tuple[str, ...]:
    """Statements for tables that had a retention and are named no more: they keep everything.

    `made` has the statements that make the tables now. An age that is not of our making stays.
    """
    return tuple(
        f"ALTER TABLE {table}{suffix} REMOVE TTL"
        for table in sorted(EXPIRES_BY)
        if table not in days_of and f" TTL {_age(table)}" in " ".join(made.get(table, "").split())
    )


def _age(table: str) -> str:
    return f"toDateTime({EXPIRES_BY[table]}, 'UTC') + toIntervalDay("
