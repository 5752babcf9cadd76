"""Names of the tables and views. Their columns and how they are made: `schema`."""

from __future__ import annotations

from typing import Final

ROWS: Final = "query_features"
SECOND_BATCHES: Final = "second_count_batches"
SECONDS: Final = "second_counts"
EMBEDDING_BATCHES: Final = "embedding_sum_batches"
EMBEDDING_SUMS: Final = "embedding_sums"
TALLIES: Final = "tallies"
EVALUATIONS: Final = "evaluations"
RELEASE_EVENTS: Final = "release_events"
DEAD_LETTERS: Final = "dead_letters"
PERFORMANCE: Final = "model_performance"
COMPLETENESS: Final = "log_completeness"
ERASURES: Final = "erasures"
MIGRATIONS: Final = "schema_migrations"

BATCH: Final = "batch"
"""Column beside a row's own: the token of the insert that brought it."""
