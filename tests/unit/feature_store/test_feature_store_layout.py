"""Retention, cluster and roles as statements."""

from __future__ import annotations

import pytest

from mlops.feature_store.cluster import SHARDED_BY, on_cluster
from mlops.feature_store.retention import EXPIRES_BY, parse_retention, retention_statements
from mlops.feature_store.roles import ROLES, role_statements
from mlops.feature_store.schema import CREATE_MIGRATIONS, MIGRATION_STEPS
from mlops.feature_store.tables import EMBEDDING_BATCHES, ROWS, SECOND_BATCHES

TABLES = [
    statement
    for step in MIGRATION_STEPS
    for statement in step.statements
    if statement.startswith("CREATE TABLE")
]


def test_retention_is_read_and_said_back() -> None:
    assert parse_retention("query_features=90d, tallies=30d") == {
        "query_features": 90,
        "tallies": 30,
    }
    assert parse_retention("") == {}
    assert retention_statements({"tallies": 30}) == (
        "ALTER TABLE tallies MODIFY TTL toDateTime(second, 'UTC') + toIntervalDay(30)",
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rows=90d", "'rows': expected one of dead_letters"),
        ("tallies=90", "expected 2d to 3660d, got '90'"),
        ("tallies=1d", "expected 2d to 3660d, got '1d'"),
        ("tallies", "got ''"),
        ("tallies=5d,tallies=6d", "given twice"),
    ],
)
def test_retention_that_does_not_fit_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_retention(text)


def test_every_table_has_an_age_and_a_shard() -> None:
    names = {statement.split()[5] for statement in TABLES}
    assert names == set(EXPIRES_BY)
    assert names < set(SHARDED_BY)


def test_a_table_on_a_cluster_is_replicated_under_a_distributed_one() -> None:
    (rows,) = [statement for statement in TABLES if f" {ROWS} (" in statement]
    local, above = on_cluster(rows, "main")
    assert local.startswith(f"CREATE TABLE IF NOT EXISTS {ROWS}_local ON CLUSTER 'main' (")
    assert "ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/" in local
    assert " replicated_deduplication_window" in local
    assert "non_replicated" not in local
    assert above.endswith(f"'main', currentDatabase(), {ROWS}_local, cityHash64(batch))")


def test_a_version_column_stays_an_argument_of_the_engine() -> None:
    (table,) = [statement for statement in TABLES if "model_performance (" in statement]
    assert "ReplicatedReplacingMergeTree('" in on_cluster(table, "c")[0]
    assert "'{replica}', refreshed_at)" in on_cluster(table, "c")[0]


def test_the_views_count_beside_the_rows() -> None:
    views = [
        statement
        for step in MIGRATION_STEPS
        for statement in step.statements
        if "MATERIALIZED VIEW" in statement
    ]
    assert len(views) == 2
    for view, target in zip(views, (SECOND_BATCHES, EMBEDDING_BATCHES), strict=True):
        (made,) = on_cluster(view, "main")
        assert f"TO {target}_local AS" in made
        assert f"FROM {ROWS}_local" in made
        assert " ON CLUSTER 'main'" in made.splitlines()[0]


def test_a_view_that_changes_goes_on_counting_beside_the_rows() -> None:
    changes = [
        statement
        for step in MIGRATION_STEPS
        for statement in step.statements
        if "MODIFY QUERY" in statement
    ]
    assert changes
    for change in changes:
        (made,) = on_cluster(change, "main")
        head = f"ALTER TABLE {SECOND_BATCHES}_view ON CLUSTER 'main' MODIFY QUERY\n"
        assert made.startswith(head)
        assert f"FROM {ROWS}_local" in made


def test_a_view_that_is_replaced_is_replaced_everywhere() -> None:
    views = [
        statement
        for step in MIGRATION_STEPS
        for statement in step.statements
        if statement.startswith("CREATE OR REPLACE VIEW")
    ]
    (made,) = on_cluster(views[-1], "main")
    assert made.startswith("CREATE OR REPLACE VIEW second_counts ON CLUSTER 'main' AS SELECT")


def test_a_new_column_comes_to_the_replicas_before_the_table_above_them() -> None:
    (add,) = [
        statement
        for step in MIGRATION_STEPS
        for statement in step.statements
        if "ADD COLUMN IF NOT EXISTS trace_id" in statement
    ]
    assert on_cluster(add, "main") == (
        f"ALTER TABLE {ROWS}_local ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS trace_id String "
        "CODEC(ZSTD(1)) AFTER request_id",
        f"ALTER TABLE {ROWS} ON CLUSTER 'main' ADD COLUMN IF NOT EXISTS trace_id String "
        " AFTER request_id",
    )


def test_only_our_own_statements_are_taken() -> None:
    assert len(on_cluster(CREATE_MIGRATIONS, "c")) == 2
    with pytest.raises(ValueError, match="not a statement that makes"):
        on_cluster("DROP TABLE x", "c")


def test_no_role_but_admin_may_change_tables() -> None:
    statements = role_statements("rag")
    changing = [each for each in statements if "GRANT ALL" in each or "ALTER" in each]
    assert changing == ["GRANT ALL ON `rag`.* TO rag_mlops_admin"]
    for role in ROLES:
        assert any(f"CREATE QUOTA IF NOT EXISTS rag_mlops_{role.name} " in s for s in statements)


def test_who_only_reads_is_granted_nothing_else() -> None:
    """`readonly` in the reader's profile would refuse it anyway."""
    (profile,) = (each for each in role_statements("rag") if "readonly" in each)
    assert profile.endswith("TO rag_mlops_reader")
    granted = [each for each in role_statements("rag", "main") if "TO rag_mlops_reader" in each]
    assert not [each for each in granted if "GRANT" in each and " SELECT ON " not in each]


def test_roles_of_a_cluster_reach_what_lies_beneath() -> None:
    statements = role_statements("rag", "main")
    assert all(" ON CLUSTER 'main'" in each for each in statements)
    for right in ("SELECT", "INSERT"):
        for table in ("query_features", "query_features_local", "tallies_local"):
            wanted = f"GRANT ON CLUSTER 'main' {right} ON `rag`.{table} TO rag_mlops_writer"
            assert wanted in statements
    assert not [each for each in statements if "second_counts_local" in each]
    assert not [each for each in role_statements("rag") if "_local" in each]
