"""Which version number a change deserves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.registry.versioning import Change, EmbeddingSpace, Facts, SemanticVersion, decide

SPACE = EmbeddingSpace(embedding_model="wordllama-256", dimension=256, index="a1")
numbers = st.integers(0, 999_999_999)


def facts(space: EmbeddingSpace = SPACE, **metrics: float) -> Facts:
    return Facts(space=space, metrics=metrics)


@given(numbers, numbers, numbers)
def test_a_version_reads_back_as_it_was_written(major: int, minor: int, patch: int) -> None:
    version = SemanticVersion(major, minor, patch)

    assert SemanticVersion.parse(str(version)) == version


@pytest.mark.parametrize("text", ["1.2", "1.2.3.4", "v1.2.3", "01.2.3", "1.2.3-rc1", "", "1.2.x"])
def test_other_shapes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"MAJOR\.MINOR\.PATCH"):
        SemanticVersion.parse(text)


def test_versions_are_ordered_as_numbers() -> None:
    assert SemanticVersion.parse("1.10.0") > SemanticVersion.parse("1.9.9")


@pytest.mark.parametrize(
    ("change", "expected"),
    [(Change.MAJOR, "2.0.0"), (Change.MINOR, "1.3.0"), (Change.PATCH, "1.2.4")],
)
def test_the_next_version_resets_what_is_below(change: Change, expected: str) -> None:
    assert str(SemanticVersion(1, 2, 3).after(change)) == expected


def test_nothing_before_is_the_first() -> None:
    assert decide(None, facts(mrr=0.5)).change is Change.FIRST


@pytest.mark.parametrize(
    "other",
    [
        EmbeddingSpace(embedding_model="minilm", dimension=256, index="a1"),
        EmbeddingSpace(embedding_model="wordllama-256", dimension=384, index="a1"),
        EmbeddingSpace(embedding_model="wordllama-256", dimension=256, index="b2"),
        EmbeddingSpace(),
    ],
)
def test_another_embedding_space_is_major_however_good_it_is(other: EmbeddingSpace) -> None:
    decision = decide(facts(mrr=0.5, queries=900), facts(other, mrr=0.9, queries=900))

    assert decision.change is Change.MAJOR


def test_better_by_more_than_chance_is_minor() -> None:
    decision = decide(facts(mrr=0.393, queries=900), facts(mrr=0.534, queries=900))

    assert decision.change is Change.MINOR
    assert "+0.1410" in decision.reason


@pytest.mark.parametrize(
    "new",
    [
        {"mrr": 0.40, "queries": 900},
        {"mrr": 0.30, "queries": 900},
        {"mrr": 0.534},
        {"latency_ms": 3.0},
    ],
    ids=["within noise", "worse", "noise unknown", "nothing to compare"],
)
def test_anything_else_is_a_patch(new: dict[str, float]) -> None:
    assert decide(facts(mrr=0.393, queries=900), facts(**new)).change is Change.PATCH


def test_a_given_standard_error_wins_over_the_bound_from_the_number_of_queries() -> None:
    old = facts(mrr=0.50, mrr_stderr=0.001)

    assert decide(old, facts(mrr=0.51, mrr_stderr=0.001)).change is Change.MINOR
    assert decide(old, facts(mrr=0.51, mrr_stderr=0.01)).change is Change.PATCH


def test_the_first_metric_that_both_have_decides() -> None:
    decision = decide(
        facts(accuracy=0.5, f1_score=0.9, queries=10_000),
        facts(accuracy=0.9, f1_score=0.8, queries=10_000),
    )

    assert decision.change is Change.PATCH
    assert decision.reason.startswith("f1_score -0.1")
