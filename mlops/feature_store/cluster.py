"""The same tables on a cluster: replicated on each shard, and reached through Distributed tables.

Pure: statements in, statements out. Every table `t` becomes `t_local`, replicated through Keeper,
and a Distributed `t` above it, so that everything else goes on using one name. A batch lies whole
on one shard, because rows are sharded by the token of their batch: so one token still covers one
insert, and the counts that the view makes lie beside their rows.
"""

from __future__ import annotations

import re
from typing import Final

from mlops.feature_store.tables import (
    BATCH,
    DEAD_LETTERS,
    EMBEDDING_BATCHES,
    ERASURES,
    EVALUATIONS,
    MIGRATIONS,
    PERFORMANCE,
    RELEASE_EVENTS,
    ROWS,
    SECOND_BATCHES,
    TALLIES,
)

SHARDED_BY: Final[dict[str, str]] = {
    ROWS: BATCH,
    SECOND_BATCHES: BATCH,
    EMBEDDING_BATCHES: BATCH,
    TALLIES: "worker",
    EVALUATIONS: BATCH,
    RELEASE_EVENTS: "release_id",
    DEAD_LETTERS: "record_id",
    PERFORMANCE: "model",
    ERASURES: "key",
    MIGRATIONS: "number",
}
"""Column whose hash chooses the shard: what replaces itself must always meet on the same one."""

CLUSTER_SETTINGS: Final[dict[str, object]] = {
    "distributed_foreground_insert": 1,
    "insert_quorum": "auto",
    "distributed_product_mode": "global",
}
"""Of the client on a cluster: an insert is acknowledged by a majority of its shard's replicas, and
joins are made with what the other shards hold as well."""

CLUSTER_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")

_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (?P<name>\w+) \(")
_ENGINE = re.compile(r"ENGINE = (?P<kind>\w*MergeTree)(?:\((?P<arguments>[^)]*)\))?")
_VIEW = re.compile(
    r"CREATE (?P<kind>(MATERIALIZED VIEW|VIEW) IF NOT EXISTS|OR REPLACE VIEW) (?P<name>\w+)"
)
_NEW_QUERY = re.compile(r"ALTER TABLE (?P<name>\w+) (?=MODIFY QUERY\n)")
_ALTER = re.compile(r"ALTER TABLE (?P<name>\w+) ADD COLUMN IF NOT EXISTS (?P<column>.*)", re.DOTALL)
_CODEC = re.compile(r"CODEC\(.*\)(?= AFTER )")
_KEEPER_PATH = "/clickhouse/tables/{shard}/{database}/{table}"


def on_cluster(statement: str, cluster: str) -> tuple[str, ...]:
    """What to run in place of a statement of the schema. `cluster` is a `CLUSTER_NAME`.

    Raises:
        ValueError: not one of the schema's statements.
    """
    if (table := _TABLE.match(statement)) is not None:
        return _replicated(statement, table["name"], cluster)
    if (view := _VIEW.match(statement)) is not None:
        return (_view(statement, view, cluster),)
    if (change := _NEW_QUERY.match(statement)) is not None:
        made = statement.replace(change[0], f"{change[0]}ON CLUSTER '{cluster}' ", 1)
        return (_beside_the_rows(made),)
    if (alter := _ALTER.match(statement)) is not None:
        return _extended(alter["name"], alter["column"], cluster)
    raise ValueError(f"not a statement that makes a table or a view: {statement[:60]!r}")


def _extended(name: str, column: str, cluster: str) -> tuple[str, ...]:
    """The replicas first: a Distributed table must not offer what they do not have yet."""
    add = "ADD COLUMN IF NOT EXISTS"
    return (
        f"ALTER TABLE {name}_local ON CLUSTER '{cluster}' {add} {column}",
        f"ALTER TABLE {name} ON CLUSTER '{cluster}' {add} {_CODEC.sub('', column)}",
    )


def _replicated(statement: str, name: str, cluster: str) -> tuple[str, ...]:
    def engine(found: re.Match[str]) -> str:
        more = f", {found['arguments']}" if found["arguments"] else ""
        return f"ENGINE = Replicated{found['kind']}('{_KEEPER_PATH}', '{{replica}}'{more})"

    local = _TABLE.sub(
        f"CREATE TABLE IF NOT EXISTS {name}_local ON CLUSTER '{cluster}' (", statement, count=1
    )
    local = _ENGINE.sub(engine, local, count=1)
    local = local.replace("non_replicated_deduplication_window", "replicated_deduplication_window")
    above = (
        f"CREATE TABLE IF NOT EXISTS {name} ON CLUSTER '{cluster}' AS {name}_local "
        f"ENGINE = Distributed('{cluster}', currentDatabase(), {name}_local, "
        f"cityHash64({SHARDED_BY[name]}))"
    )
    return local, above


def _view(statement: str, view: re.Match[str], cluster: str) -> str:
    made = statement.replace(view[0], f"{view[0]} ON CLUSTER '{cluster}'", 1)
    if not view["kind"].startswith("MATERIALIZED"):
        return made
    made = re.sub(r"\nTO (\w+) ", r"\nTO \1_local ", made, count=1)
    return _beside_the_rows(made)


def _beside_the_rows(statement: str) -> str:
    """A view runs where the rows are inserted, and writes there."""
    return re.sub(rf"\bFROM {ROWS}\b", f"FROM {ROWS}_local", statement)
