"""Semantic versions of models, chosen from what changed. Pure.

major: an index or a stored vector made with the old version cannot be used with the new one.
minor: better on held-out queries by more than chance. patch: anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt
from typing import Final, Self

FIRST: Final = "1.0.0"

PRIMARY_METRICS: Final = (
    "mrr",
    "ndcg_at_10",
    "recall_at_10",
    "recall_at_1",
    "f1_score",
    "accuracy",
)
"""The first that both versions have decides whether one is better."""

NORMAL_95: Final = 1.96
"""Two-sided 95 % of the normal distribution."""

_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\Z")


class Change(StrEnum):
    """What a new version is, compared with the one before."""

    FIRST = "first"
    MAJOR = "major"
    MINOR = "minor"
    PATCH = "patch"


@dataclass(frozen=True, slots=True, order=True)
class SemanticVersion:
    """MAJOR.MINOR.PATCH, as semver.org has it, without pre-releases and builds."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError where `text` is not three numbers with dots between."""
        match = _VERSION.match(text)
        if match is None:
            raise ValueError(f"version {text!r} is not MAJOR.MINOR.PATCH, such as 1.2.3")
        return cls(*(int(part) for part in match.groups()))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def after(self, change: Change) -> SemanticVersion:
        """The next version for a change of that kind."""
        match change:
            case Change.MAJOR:
                return SemanticVersion(self.major + 1, 0, 0)
            case Change.MINOR:
                return SemanticVersion(self.major, self.minor + 1, 0)
            case Change.PATCH:
                return SemanticVersion(self.major, self.minor, self.patch + 1)
            case Change.FIRST:
                raise ValueError(f"{self} exists, so nothing after it is the first")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSpace:
    """What two versions must share for vectors of one to mean anything to the other."""

    embedding_model: str = ""
    dimension: int = 0
    index: str = ""
    """Digest or name of the index that was built with it."""

    @property
    def is_known(self) -> bool:
        """Whether anything is said of it."""
        return bool(self.embedding_model or self.dimension or self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a decision about a version number needs to know of one version."""

    space: EmbeddingSpace
    metrics: Mapping[str, float]
    """On held-out queries. `NAME_stderr` is the standard error of NAME; without one, `queries`
    (how many there were) bounds it for metrics in 0..1."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A kind of change, and why in one sentence."""

    change: Change
    reason: str


def decide(old: Facts | None, new: Facts) -> Decision:
    """What kind of change `new` is after `old`."""
    if old is None:
        return Decision(Change.FIRST, "the first version")
    if old.space != new.space and (old.space.is_known or new.space.is_known):
        return Decision(Change.MAJOR, _difference(old.space, new.space))
    return _by_metrics(old.metrics, new.metrics)


def _difference(old: EmbeddingSpace, new: EmbeddingSpace) -> str:
    parts = [
        f"{word} {before or 'unknown'} became {after or 'unknown'}"
        for word, before, after in (
            ("embedding model", old.embedding_model, new.embedding_model),
            ("dimension", old.dimension, new.dimension),
            ("index", old.index, new.index),
        )
        if before != after
    ]
    return f"vectors of the old version mean nothing to the new one: {', '.join(parts)}"


def _by_metrics(old: Mapping[str, float], new: Mapping[str, float]) -> Decision:
    name = next((name for name in PRIMARY_METRICS if name in old and name in new), None)
    if name is None:
        return Decision(Change.PATCH, "no metric that both versions have says it is better")
    gain = new[name] - old[name]
    errors = [_standard_error(metrics, name) for metrics in (old, new)]
    if None in errors:
        return Decision(
            Change.PATCH,
            f"{name} {gain:+.4f}, but how much of that is chance is not known: "
            f"give {name}_stderr or queries",
        )
    noise = NORMAL_95 * sqrt(sum(error * error for error in errors if error is not None))
    change = Change.MINOR if gain > noise else Change.PATCH
    word = "more" if gain > noise else "not more"
    return Decision(change, f"{name} {gain:+.4f}, {word} than the {noise:.4f} that chance explains")


def _standard_error(metrics: Mapping[str, float], name: str) -> float | None:
    given = metrics.get(f"{name}_stderr")
    if given is not None:
        return given
    queries, value = metrics.get("queries", 0.0), metrics[name]
    if queries >= 1 and 0 <= value <= 1:
        return sqrt(value * (1 - value) / queries)
    return None
