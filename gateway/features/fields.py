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
    return isinstance(value, dict)


class Fields:
    """Reads named fields out of JSON objects into a `Features`, noting what was unusable."""

    def __init__(self, features: Features) -> None:
        self._features = features

    def text(self, name: str, *values: object) -> str | None:
        """The first value that is a text, cut to what a row takes.

        A whole number is its digits, as ids often are one.
        """
        for value in values:
            if isinstance(value, str):
                if len(value) > MAX_TEXT_CHARS:
                    self._features.miss(TRUNCATED)
                return storable(value[:MAX_TEXT_CHARS])
            if isinstance(value, int) and not isinstance(value, bool):
                return str(value)
            if value is not None:
                self._unusable(name)
        return None

    def number(self, name: str, *values: object) -> float | None:
        for value in values:
            if (number := finite(value)) is not None:
                return number
            if value is not None:
                self._unusable(name)
        return None

    def count(self, name: str, *values: object) -> int | None:
        for value in values:
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT:
                return value
            if value is not None:
                self._unusable(name)
        return None

    def numbers(self, name: str, *values: object) -> list[float]:
        """The first value that is a list of numbers, all finite and no more than a row takes."""
        for value in values:
            if isinstance(value, list) and len(value) <= MAX_EMBEDDING_LENGTH:
                found = [number for item in value if (number := finite(item)) is not None]
                if len(found) == len(value):
                    return found
            if value is not None:
                self._unusable(name)
        return []

    def retrieved(self, *values: object) -> tuple[list[str], list[float]]:
        """Ids and scores of retrieved documents. Scores are kept only if every document has one."""
        for value in values:
            if isinstance(value, list):
                documents = [item for item in value[:MAX_RETRIEVED] if is_object(item)]
                ids = [self.text("retrieved_ids", item.get("id")) for item in documents]
                scores = [finite(item.get("score")) for item in documents]
                whole = [score for score in scores if score is not None]
                if any(item is None for item in ids) or len(documents) < min(
                    len(value), MAX_RETRIEVED
                ):
                    self._unusable("retrieved_ids")
                    return [], []
                if whole and len(whole) < len(scores):
                    self._unusable("retrieved_scores")
                    whole = []
                return [item for item in ids if item is not None], whole
            if value is not None:
                self._unusable("retrieved_ids")
        return [], []

    def _unusable(self, name: str) -> None:
        self._features.miss(f"unusable {name}")


def finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def storable(text: str) -> str:
    """JSON can spell half a surrogate pair, which no encoding of text can hold."""
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text
