"""From judged answers to pairs: each query with its right document, in one split. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final
from unicodedata import normalize

from mlops.training.plan import Labelling, Plan

SPLIT_BUCKETS: Final = 10
HELD_OUT_BUCKETS: Final = frozenset({0, 1})
"""20 % of the queries: no trainer ever sees them, whichever retraining it is."""
VALIDATION_BUCKETS: Final = frozenset({2})
"""10 %: say when training stops."""

RANK_TOLERANCE: Final = 0.02
"""A reciprocal rank may have been rounded to two digits; those of ranks up to 6 stay apart."""

MAX_REFUSED: Final = 20
"""Wrong documents kept of one answer: as many as the model server gives at most."""


class Split(StrEnum):
    """What a query is used for. A hash of its words decides: the same in every retraining."""

    TRAINING = "training"
    VALIDATION = "validation"
    HELD_OUT = "held_out"


class Dropped(StrEnum):
    """Why a row gives no pair."""

    NOT_SCORED = "not_scored"
    NOT_FINITE = "not_finite"
    NOTHING_RETRIEVED = "nothing_retrieved"
    RANK_UNCLEAR = "rank_unclear"
    UNKNOWN_DOCUMENT = "unknown_document"
    ANSWER_NOT_RIGHT = "answer_not_right"
    ASKED_AGAIN = "asked_again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A query and the document that answers it."""

    query_key: str
    """Of the query's words: equal for what is the same question."""
    query_text: str
    document_id: str
    refused_ids: tuple[str, ...]
    """Shown with it, and not found right by anybody."""
    split: Split
    times_asked: int
    first_asked_at: datetime
    request_id: str
    """The first request that asked it."""
    user_id: str | None


@dataclass(slots=True)
class Labelled:
    """What became of the rows."""

    pairs: list[Pair] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    good: int = 0
    """Judged answers with a right document, and without one."""
    bad: int = 0


def query_key(text: str) -> str:
    """The same for queries that differ in case, in spaces, or in how Unicode spells a letter only
    (an accent typed on a phone may be a sign of its own): nobody sees a difference, and what is one
    question must not be trained on and held out."""
    words = " ".join(normalize("NFC", normalize("NFC", text).casefold()).split())
    return blake2b(words.encode(), digest_size=16).hexdigest()


def split_of(key: str) -> Split:
    """By the query alone: the same in every retraining, so what is held out once always is."""
    bucket = int(key[:8], 16) % SPLIT_BUCKETS
    if bucket in HELD_OUT_BUCKETS:
        return Split.HELD_OUT
    if bucket in VALIDATION_BUCKETS:
        return Split.VALIDATION
    return Split.TRAINING


def right_rank(labelling: Labelling, score: float, minimum_score: float) -> int | None:
    """Rank of the right document from 1; 0: none was right; None: the score does not say."""
    match labelling:
        case Labelling.TOP_ANSWER:
            return 1 if score >= minimum_score else 0
        case Labelling.RECIPROCAL_RANK:
            if score <= 0:
                return 0
            rank = round(1 / score)
            return rank if abs(score * rank - 1) <= RANK_TOLERANCE * rank else None


def label(rows: Iterable[Mapping[str, Any]], plan: Plan, known: Collection[str]) -> Labelled:
    """Pairs of all rows, which come oldest first; a query is one pair, however often asked.

    Where judgements of one query differ, the document found right most often is its answer, the
    one found first among equals.
    """
    found = Labelled()
    answers: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for row in rows:
        judged = _judged(row, plan, known)
        if isinstance(judged, Dropped):
            found.dropped[judged] += 1
            found.bad += judged is Dropped.ANSWER_NOT_RIGHT
            continue
        found.good += 1
        answers.setdefault(query_key(row["query_text"]), []).append((judged, row))
    for key, judgements in answers.items():
        found.pairs.append(_pair(key, judgements))
        found.dropped[Dropped.ASKED_AGAIN] += len(judgements) - 1
    found.dropped = +found.dropped
    return found


def _judged(row: Mapping[str, Any], plan: Plan, known: Collection[str]) -> str | Dropped:
    """The id of the right document, or why there is none."""
    ids: Sequence[str] = row["retrieved_ids"] or ()
    if not row["is_finite"]:
        return Dropped.NOT_FINITE
    if row["score"] is None:
        return Dropped.NOT_SCORED
    if not ids:
        return Dropped.NOTHING_RETRIEVED
    rank = right_rank(plan.labelling, row["score"], plan.minimum_score)
    if rank is None or rank > len(ids):
        return Dropped.RANK_UNCLEAR
    if rank == 0:
        return Dropped.ANSWER_NOT_RIGHT
    return ids[rank - 1] if ids[rank - 1] in known else Dropped.UNKNOWN_DOCUMENT


def _pair(key: str, judgements: Sequence[tuple[str, Mapping[str, Any]]]) -> Pair:
    votes = Counter(document for document, _ in judgements)
    document, _ = votes.most_common(1)[0]
    row = next(row for judged, row in judgements if judged == document)
    refused = [one for one in row["retrieved_ids"] if one not in votes]
    return Pair(
        query_key=key,
        query_text=row["query_text"],
        document_id=document,
        refused_ids=tuple(refused[:MAX_REFUSED]),
        split=split_of(key),
        times_asked=len(judgements),
        first_asked_at=judgements[0][1]["ended_at"],
        request_id=row["request_id"],
        user_id=row["user_id"],
    )
