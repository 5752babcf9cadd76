"""What the registry knows of a version, and how that lies in MLflow's tags."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from math import isfinite
from typing import Any, Final

import msgspec

from mlops.registry.versioning import EmbeddingSpace, Facts

VERSION_TAG: Final = "version"
"""Holds the semantic version."""
REJECTED_TAG: Final = "rejected"
"""Holds why the version was taken back."""
METRIC_PREFIX: Final = "metric."
_SPACE_TAGS: Final = ("embedding_model", "dimension", "index")


class ModelKind(StrEnum):
    """What a model is for, and the name it is registered under unless another is given."""

    EMBEDDING = "embedding"
    RERANKER = "reranker"
    GENERATOR = "generator"

    @property
    def default_name(self) -> str:
        """Of the registered model."""
        return f"rag_{self}_model"


class Alias(StrEnum):
    """Names that move from version to version."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    PREVIOUS = "previous"


class UnknownVersion(LookupError):
    """There is no such model, or no such version of it."""


class ProtectedVersion(ValueError):
    """A version that something live, or a rollback, depends on is not deleted."""


class NotReleased(ValueError):
    """Only a release that reached its users makes a champion."""


class RegisteredVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version, by both of its numbers."""

    model: str
    version: str
    """Semantic."""
    mlflow_version: str
    """MLflow's own counter."""
    run_id: str
    source: str
    """Where its files are, as MLflow has it."""
    kind: str = ""
    aliases: tuple[str, ...] = ()
    metrics: dict[str, float] = {}
    change: str = ""
    change_reason: str = ""
    rejected: str = ""
    """Why it was taken back; empty if it was not."""
    embedding_model: str = ""
    dimension: int = 0
    index: str = ""
    created_at: datetime

    @property
    def facts(self) -> Facts:
        """What a decision about the next number needs."""
        return Facts(space=self.space, metrics=self.metrics)

    @property
    def space(self) -> EmbeddingSpace:
        """Of its vectors."""
        return EmbeddingSpace(
            embedding_model=self.embedding_model, dimension=self.dimension, index=self.index
        )


def read_version(one: Any, aliases: tuple[str, ...]) -> RegisteredVersion:
    """From MLflow's value of it, with the aliases that point at it.

    Anybody may set tags in MLflow: one of ours that is no number counts as not set, since one
    version's tag must not hide all the others.
    """
    tags = one.tags
    metrics = {
        name.removeprefix(METRIC_PREFIX): number
        for name, value in tags.items()
        if name.startswith(METRIC_PREFIX) and (number := _number(value)) is not None
    }
    return RegisteredVersion(
        model=one.name,
        version=tags.get(VERSION_TAG, ""),
        mlflow_version=str(one.version),
        run_id=one.run_id or "",
        source=one.source or "",
        kind=tags.get("kind", ""),
        aliases=aliases,
        metrics=metrics,
        change=tags.get("change", ""),
        change_reason=tags.get("change_reason", ""),
        rejected=tags.get(REJECTED_TAG, ""),
        embedding_model=tags.get("embedding_model", ""),
        dimension=_dimension(tags),
        index=tags.get("index", ""),
        created_at=datetime.fromtimestamp(one.creation_timestamp / 1000, UTC),
    )


def space_of(parameters: Mapping[str, str]) -> EmbeddingSpace:
    """From the parameters of a run."""
    return EmbeddingSpace(
        embedding_model=parameters.get("embedding_model", ""),
        dimension=_dimension(parameters),
        index=parameters.get("index", ""),
    )


def _dimension(texts: Mapping[str, str]) -> int:
    text = texts.get("dimension", "")
    return int(text) if text.isdecimal() else 0


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if isfinite(number) else None


def space_tags(space: EmbeddingSpace) -> dict[str, str]:
    """What is known of it, as tags."""
    values = {name: str(getattr(space, name)) for name in _SPACE_TAGS}
    return {name: value for name, value in values.items() if value not in {"", "0"}}


def metric_tags(metrics: Mapping[str, float]) -> dict[str, str]:
    """Metrics as tags; `repr` keeps every digit."""
    return {f"{METRIC_PREFIX}{name}": repr(float(value)) for name, value in metrics.items()}
