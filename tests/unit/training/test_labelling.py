"""How judged answers become pairs."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.training.labelling import Dropped, Split, label, query_key, right_rank, split_of
from mlops.training.plan import Labelling, Plan, Window

START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = Window(since=START, until=START + timedelta(days=1), as_of=START + timedelta(days=1))
PLAN = Plan(window=WINDOW, labelling=Labelling.RECIPROCAL_RANK)
KNOWN = frozenset({"a", "b", "c"})


def row(text: str = "what is a lease", score: float | None = 1.0, **changed: Any) -> dict[str, Any]:
    values = {
        "query_text": text,
        "score": score,
        "retrieved_ids": ["a", "b", "c"],
        "is_finite": True,
        "ended_at": START,
        "request_id": "r",
        "user_id": None,
    }
    return {**values, **changed}


@pytest.mark.parametrize(
    ("labelling", "score", "rank"),
    [
        (Labelling.TOP_ANSWER, 0.5, 1),
        (Labelling.TOP_ANSWER, 0.49, 0),
        (Labelling.RECIPROCAL_RANK, 1.0, 1),
        (Labelling.RECIPROCAL_RANK, 0.33, 3),
        (Labelling.RECIPROCAL_RANK, 0.05, 20),
        (Labelling.RECIPROCAL_RANK, 0.0, 0),
        (Labelling.RECIPROCAL_RANK, 0.75, None),
    ],
)
def test_what_a_score_says(labelling: Labelling, score: float, rank: int | None) -> None:
    assert right_rank(labelling, score, 0.5) == rank


def test_the_document_at_the_rank_is_right_and_the_others_were_refused() -> None:
    (pair,) = label([row(score=0.5)], PLAN, KNOWN).pairs
    assert (pair.document_id, pair.refused_ids) == ("b", ("a", "c"))


def test_what_anybody_found_right_is_no_negative() -> None:
    """Else a query is pulled away from what some of those who asked it took for its answer."""
    judged = [row(score=1.0), row(score=1.0), row(score=0.5)]
    (pair,) = label(judged, PLAN, KNOWN).pairs
    assert (pair.document_id, pair.refused_ids) == ("a", ("c",))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (row(score=None), Dropped.NOT_SCORED),
        (row(score=0.0), Dropped.ANSWER_NOT_RIGHT),
        (row(score=0.75), Dropped.RANK_UNCLEAR),
        (row(score=0.25), Dropped.RANK_UNCLEAR),  # the fourth of three
        (row(retrieved_ids=[]), Dropped.NOTHING_RETRIEVED),
        (row(retrieved_ids=["gone"]), Dropped.UNKNOWN_DOCUMENT),
        (row(is_finite=False), Dropped.NOT_FINITE),
    ],
)
def test_a_row_without_a_pair_is_counted_by_why(bad: dict[str, Any], why: Dropped) -> None:
    found = label([bad], PLAN, KNOWN)
    assert found.pairs == []
    assert found.dropped == Counter({why: 1})


def test_a_query_asked_again_is_one_pair_with_the_answer_found_most_often() -> None:
    rows = [
        row(score=1.0, request_id="first"),
        row("What is  a LEASE", score=0.5, request_id="second"),
        row(score=0.5, request_id="third"),
    ]
    (pair,) = label(rows, PLAN, KNOWN).pairs
    assert (pair.document_id, pair.times_asked, pair.request_id) == ("b", 3, "second")


@given(st.text(), st.text(alphabet=" \t\n", max_size=3))
def test_case_and_spaces_never_move_a_query_to_another_split(text: str, space: str) -> None:
    assert query_key(space + text.upper().lower() + space) == query_key(text.upper().lower())
    assert split_of(query_key(text)) is split_of(query_key(f"{text} "))


@pytest.mark.parametrize("text", ["où est le café", "Straße nach Köln", "가격 정책", "ΌΔΟΣ"])
def test_a_letter_is_the_same_however_unicode_spells_it(text: str) -> None:
    """One spelling in training and the other held out would be a leak."""
    spellings = {form: query_key(normalize(form, text)) for form in ("NFC", "NFD")}
    assert len(set(spellings.values())) == 1
    assert spellings["NFD"] == query_key(normalize("NFD", text.upper()))


def test_a_fifth_is_held_out_and_a_tenth_validates() -> None:
    counted = Counter(split_of(query_key(f"question {n}")) for n in range(10_000))
    assert counted[Split.HELD_OUT] == pytest.approx(2_000, abs=200)
    assert counted[Split.VALIDATION] == pytest.approx(1_000, abs=150)
