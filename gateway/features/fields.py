"""Single fields out of JSON values: one of the wrong kind is dropped and named, never guessed."""

from __future__ import annotations

import math
from typing import TypeGuard

from gateway.features.model import TRUNCATED, Features
from mlops.contracts.record import MAX_EMBEDDING_LENGTH, MAX_TEXT_CHARS

MAX_RETRIEVED = 1_000
"""Documents kept of one answer; more is a dump, not a retrieval."""
MAX_COUNT = 2**31 - 1
"""Of tokens."""


def is_object(value: object) -> TypeGuard[dict[str, object]]:
    """Whether a JSON value is an object; its keys are texts then."""
    return isinstance(value, dict)


def text(features: Features, name: str, *values: object) -> str | None:
    """The first value that is a text, cut to what a row takes.

    A whole number is its digits, as ids often are one.
    """
    for value in values:
        if value is None:
            continue
        if isinstance(value, str):
            if len(value) > MAX_TEXT_CHARS:
                features.miss(TRUNCATED)
                return storable(value[:MAX_TEXT_CHARS])
            return value if value.isascii() else storable(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        unusable(features, name)
    return None


def number(features: Features, name: str, *values: object) -> float | None:
    """The first value that is a finite number."""
    for value in values:
        if value is None:
            continue
        if (found := finite(value)) is not None:
            return found
        unusable(features, name)
    return None


def count(features: Features, name: str, value: object) -> int | None:
    """A whole number from 0 to `MAX_COUNT`."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT:
        return value
    if value is not None:
        unusable(features, name)
    return None


def numbers(features: Features, name: str, *values: object) -> list[float]:
    """The first value that is a list of numbers, all finite and no more than a row takes."""
    for value in values:
        if value is None:
            continue
        if isinstance(value, list) and len(value) <= MAX_EMBEDDING_LENGTH:
            # The usual case is looked at as a whole: item by item takes ten times as long.
            if list(map(type, value)).count(float) == len(value) and math.isfinite(sum(value, 0.0)):
                return value
            found = [each for item in value if (each := finite(item)) is not None]
            if len(found) == len(value):
                return found
        unusable(features, name)
    return []


def retrieved(features: Features, value: object) -> None:
    """Count, ids and scores of retrieved documents: objects with `id` and `score`, or ids alone.

    Scores are kept only if every document has one.
    """
    if value is None:
        return
    if not isinstance(value, list):
        unusable(features, "retrieved_ids")
        return
    features.retrieved_count = len(value)
    kept = value[:MAX_RETRIEVED]
    ids = [_document_id(features, item) for item in kept]
    if None in ids:
        unusable(features, "retrieved_ids")
        return
    scores = [finite(item.get("score")) for item in kept if is_object(item)]
    whole = [score for score in scores if score is not None]
    if whole and len(whole) < len(kept):
        unusable(features, "retrieved_scores")
        whole = []
    features.retrieved_ids = [item for item in ids if item is not None]
    features.retrieved_scores = whole


def _document_id(features: Features, item: object) -> str | None:
    if is_object(item):
        item = item.get("id")
    return text(features, "retrieved_ids", item)


def unusable(features: Features, name: str) -> None:
    """Note that a field was there and could not be used."""
    features.miss(f"unusable {name}")


def finite(value: object) -> float | None:
    """As a float; None: no number, not finite, or beyond what a float holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def storable(value: str) -> str:
    """JSON can spell half a surrogate pair, which no encoding of text can hold."""
    return value.encode("utf-8", "replace").decode("utf-8")
