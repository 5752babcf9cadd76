"""What is written beside rows refuses values that nothing could read back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mlops.feature_store.entries import MAX_EXCERPT_CHARS, DeadLetter, Evaluation

NOON = datetime(2026, 4, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("score", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_score_outside_its_range_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        Evaluation(request_id="q", name="mrr", score=score, received_at=NOON)


def test_a_score_of_no_request_is_refused() -> None:
    with pytest.raises(ValueError, match="request_id is empty"):
        Evaluation(request_id="", name="mrr", score=0.5, received_at=NOON)


def test_an_excerpt_is_bounded() -> None:
    with pytest.raises(ValueError, match="at most 4,096"):
        DeadLetter(
            record_id="r",
            route="rag",
            reason="bad",
            payload_excerpt="x" * (MAX_EXCERPT_CHARS + 1),
            at=NOON,
        )
