"""What has to go when a person asks: statements that find, delete and count. Pure.

A statement that changes a table stays on the disk as text, so none names the person: what is to go
is first listed by id in `erasures`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from mlops.feature_store.aggregates import EMBEDDING_AGGREGATE
from mlops.feature_store.errors import Unavailable
from mlops.feature_store.tables import (
    BATCH,
    DEAD_LETTERS,
    EMBEDDING_BATCHES,
    ERASURES,
    EVALUATIONS,
    ROWS,
)

RECORD: Final = "record"
REQUEST: Final = "request"
LETTER: Final = "letter"
IN_BATCH: Final = "batch"

ERASED_BY: Final[dict[str, tuple[str, str]]] = {
    EVALUATIONS: ("request_id", REQUEST),
    DEAD_LETTERS: ("record_id", LETTER),
    ROWS: ("record_id", RECORD),
}
"""By table, in the order they are erased: the column, and the kind of id that is in it."""

RESTORED: Final = "_restored"
"""Ends the name of a table that archived days are brought back into."""

Told = Callable[[str, int, int], None]
"""What is being read or rewritten, how much of it is done, and how much there is."""

OF_USER: Final = "user_id = {user:String}"
"""Rows of a person."""
NAMES_USER: Final = "match(payload_excerpt, {pattern:String})"
"""Dead letters that name a person."""


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """How many of each there were; none is left."""

    rows: int
    evaluations: int
    dead_letters: int
    archived: int = 0
    """Rows in archived days, of all tables."""
    partitions: int = 0
    """Rows in partitions of training data."""


def nobody(what: str, done: int, total: int) -> None:
    """To be told where nobody waits."""
    del what, done, total


def require_named(user_id: str) -> None:
    """Raises ValueError: nobody is named."""
    if not user_id:
        raise ValueError("user_id is empty; expected the id of the user to erase")


@contextmanager
def unnamed(user_id: str) -> Iterator[None]:
    """Around statements that name the person: the engine quotes them where it fails.

    Raises:
        Unavailable: as it came, without the name.
    """
    try:
        yield
    except Unavailable as error:
        raise Unavailable(str(error).replace(user_id, "(the person)")) from None


def find_statements() -> Iterator[str]:
    """List what there is of a person: parameters `erasure`, `user` and `pattern`."""
    for kind, column in ((RECORD, "record_id"), (REQUEST, "request_id"), (IN_BATCH, BATCH)):
        yield _listing(kind, column, ROWS, OF_USER)
    yield _listing(LETTER, "record_id", DEAD_LETTERS, NAMES_USER)


def _listing(kind: str, column: str, table: str, condition: str) -> str:
    return (
        f"INSERT INTO {ERASURES} (erasure, kind, key) "
        f"SELECT DISTINCT {{erasure:String}}, '{kind}', {column} FROM {table} WHERE {condition}"
    )


def mention_of(user_id: str) -> str:
    """A pattern that finds the id as a whole word, and not inside another; as it is or in JSON."""
    in_json = msgspec.json.encode(user_id).decode()[1:-1]
    either = "|".join(re.escape(each) for each in dict.fromkeys((user_id, in_json)))
    return rf"(^|[^A-Za-z0-9_])({either})($|[^A-Za-z0-9_])"


def _listed(kind: str, erasure: str) -> str:
    return f"(SELECT key FROM {ERASURES} WHERE erasure = '{erasure}' AND kind = '{kind}')"


def count_statement(table: str, erasure: str) -> str:
    """How many rows an erasure still has to take out of a table, live or restored."""
    column, kind = ERASED_BY[table.removesuffix(RESTORED)]
    return f"SELECT count() FROM {table} WHERE {column} IN {_listed(kind, erasure)}"


def delete_statement(table: str, erasure: str, cluster: str = "") -> str:
    """To be run with `mutations_sync = 2`: it has happened when it returns, on every replica."""
    column, kind = ERASED_BY.get(table.removesuffix(RESTORED), (BATCH, IN_BATCH))
    target = placed(table, cluster)
    return f"ALTER TABLE {target} DELETE WHERE {column} IN {_listed(kind, erasure)}"


def sums_again(erasure: str) -> str:
    """Sums of the batches that lost rows: the sum of one query is that query's embedding."""
    return (
        f"INSERT INTO {EMBEDDING_BATCHES}\n{EMBEDDING_AGGREGATE.selection}\n"
        f"WHERE {BATCH} IN {_listed(IN_BATCH, erasure)}\nGROUP BY {EMBEDDING_AGGREGATE.keys}"
    )


def placed(table: str, cluster: str) -> str:
    """What a mutation names: on a cluster it changes every shard's own table."""
    return f"{table}_local ON CLUSTER '{cluster}'" if cluster else table
