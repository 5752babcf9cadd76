"""Better beyond chance, and nowhere worse."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import numpy as np
import pytest

from mlops.evaluation.comparison import Answer, Comparison, compare
from mlops.evaluation.report import page
from mlops.evaluation.slices import MIN_QUERIES, Asked, slices_of

BASELINE = np.tile([1, 3, 5, 9], 100)
PART = np.arange(400) < 40


def compared(candidate: np.ndarray, margin: float = 0.05) -> Comparison:
    return compare(
        {"candidate": candidate, "champion": BASELINE},
        candidate="candidate",
        baseline="champion",
        slices={"domain: <b>": PART, "rest": ~PART},
        slice_margin=margin,
        seed=1,
    )


def test_better_everywhere() -> None:
    found = compared(np.maximum(BASELINE - 1, 1))
    assert found.answer is Answer.BETTER
    assert found.gain.low > 0


@pytest.mark.parametrize("candidate", [BASELINE, BASELINE + 1])
def test_equal_or_worse_is_not_better(candidate: np.ndarray) -> None:
    assert compared(candidate).answer is Answer.NOT_BETTER


def test_a_gain_within_chance_is_not_better() -> None:
    ranks = BASELINE.copy()
    ranks[1] = 1
    found = compared(ranks)
    assert found.gain.value > 0
    assert found.answer is Answer.NOT_BETTER


def test_a_slice_that_loses_refuses_what_gains_on_the_whole() -> None:
    candidate = np.where(PART, 50, 1)
    found = compared(candidate)
    assert found.gain.is_gain
    assert found.answer is Answer.SLICE_WORSE
    assert re.search(r"worse in domain: <b> -0\.\d+ .* 40 queries", found.sentence)
    assert compared(candidate, margin=0.9).answer is Answer.BETTER


def test_the_page_escapes_what_it_shows() -> None:
    written = page("<model>", compared(BASELINE), {"data": "<today>"}, {})
    for text in ("<model>", "<today>", "domain: <b>"):
        assert text not in written
    assert "&lt;model&gt;" in written


def asked(number: int, **changed: object) -> Asked:
    values: dict[str, object] = {
        "text": "three short words",
        "document_id": f"d{number}",
        "domain": "numpy",
        "first_asked_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Asked(**{**values, **changed})  # type: ignore[arg-type]


def test_slices_are_by_length_domain_newness_and_time() -> None:
    queries = [asked(n) for n in range(MIN_QUERIES)]
    queries += [
        asked(
            n,
            domain="sklearn",
            text="word " * 13,
            first_asked_at=datetime(2026, 1, 9, tzinfo=UTC),
        )
        for n in range(100, 100 + MIN_QUERIES)
    ]
    queries += [asked(999, domain="rare")]
    found = slices_of(
        queries,
        trained_documents={f"d{n}" for n in range(MIN_QUERIES)},
        trained_domains={"numpy", "rare"},
        recent_since=datetime(2026, 1, 8, tzinfo=UTC),
    )
    first = {row for row in range(len(queries)) if row < MIN_QUERIES}
    second = {row for row in range(len(queries)) if MIN_QUERIES <= row < 2 * MIN_QUERIES}
    rows = {name: set(np.flatnonzero(mask).tolist()) for name, mask in found.items()}
    assert rows["domain: numpy"] == rows["document: known"] == first
    assert rows["domain: sklearn"] == rows["topic: new"] == rows["length: over 12 words"] == second
    assert rows["asked: recently"] == second
    assert "domain: rare" not in rows
