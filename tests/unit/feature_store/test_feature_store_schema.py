"""The tables follow the contracts, and every step can be repeated."""

from __future__ import annotations

from mlops.contracts.evidence import EmbeddingSums, SecondCounts
from mlops.contracts.record import ERROR_OUTCOMES, ROW_COLUMNS
from mlops.feature_store.aggregates import BINS, COUNTS, EMBEDDING_TYPES, SECOND_AGGREGATE
from mlops.feature_store.entries import DeadLetter, ReleaseEvent
from mlops.feature_store.schema import (
    DEAD_LETTER_TYPES,
    MIGRATION_STEPS,
    RELEASE_EVENT_TYPES,
    ROW_TYPES,
)


def test_the_columns_are_the_fields_in_their_order() -> None:
    assert tuple(ROW_TYPES) == ROW_COLUMNS
    assert tuple(RELEASE_EVENT_TYPES) == ReleaseEvent.__struct_fields__
    assert tuple(DEAD_LETTER_TYPES) == DeadLetter.__struct_fields__


def test_the_counts_are_those_the_agent_knows() -> None:
    keys = ("second", "generation", "arm")

    assert sorted((*keys, *COUNTS, *BINS)) == sorted(SecondCounts.__struct_fields__)


def test_every_error_outcome_is_counted() -> None:
    for outcome in ERROR_OUTCOMES:
        assert f"'{outcome}'" in SECOND_AGGREGATE.query


def test_the_sums_are_those_the_agent_knows() -> None:
    keys = ("second", "generation", "arm", "dims")

    assert {*keys, *EMBEDDING_TYPES} - {"rows"} == set(EmbeddingSums.__struct_fields__)


def test_steps_are_numbered_without_gaps_and_can_be_repeated() -> None:
    assert [step.number for step in MIGRATION_STEPS] == [*range(1, len(MIGRATION_STEPS) + 1)]
    repeatable = (" IF NOT EXISTS ", "CREATE OR REPLACE ", " MODIFY QUERY\n")
    for step in MIGRATION_STEPS:
        for statement in step.statements:
            assert any(words in statement for words in repeatable), statement
