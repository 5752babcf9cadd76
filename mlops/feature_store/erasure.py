"""What has to go when a person asks: statements that count and delete. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from mlops.feature_store.tables import DEAD_LETTERS, EVALUATIONS, ROWS

_OF_USER = "user_id = {user:String}"

CONDITIONS: Final[dict[str, str]] = {
    EVALUATIONS: f"request_id IN (SELECT request_id FROM {ROWS} WHERE {_OF_USER})",
    DEAD_LETTERS: "position(payload_excerpt, {user:String}) > 0",
    ROWS: _OF_USER,
}
"""By table, in the order they are deleted: scores are found through the rows they belong to.

Counts per second hold nothing of a person and stay, so what was judged can be judged again.
"""


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """How many of each there were; none is left."""

    rows: int
    evaluations: int
    dead_letters: int


def count_statement(table: str) -> str:
    return f"SELECT count() FROM {table} WHERE {CONDITIONS[table]}"


def delete_statement(table: str, cluster: str = "") -> str:
    """To be run with `mutations_sync = 2`: it has happened when it returns, on every replica."""
    target = f"{table}_local ON CLUSTER '{cluster}'" if cluster else table
    return f"ALTER TABLE {target} DELETE WHERE {CONDITIONS[table]}"
