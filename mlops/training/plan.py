"""What one retraining is to do, as a value: everything that its result depends on. Pure.

A plan is made once, kept in the partition, and never names "the latest" of anything: the window has
an end, the champion has a number, chance has a seed.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from hashlib import blake2b

import msgspec

from mlops.feature_store.training_data import Selection

MAX_ROWS = 1_000_000
"""Rows of one training: their texts, ids and scores stay below 2 GB."""


class Labelling(StrEnum):
    """How the score of an answer says which document was the right one."""

    TOP_ANSWER = "top_answer"
    """A good score (at least `minimum_score`) means that the first document was right."""
    RECIPROCAL_RANK = "reciprocal_rank"
    """The score is 1 over the rank of the right document, 0 where it was not among them."""


class TrainerKind(StrEnum):
    """How the model is trained."""

    LINEAR_ADAPTER = "linear_adapter"
    """Two linear maps on frozen embeddings: numpy, seconds, the same bytes each time."""
    SENTENCE_TRANSFORMERS = "sentence_transformers"
    """Fine-tuning of the encoder itself; needs torch, which the extra `train` brings."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The span of traffic that is learned from. All three are UTC.

    Rows ended in `since` .. `until`; scores count where they had arrived by `as_of`. The time
    between `until` and `as_of` is what late scores are waited for.
    """

    since: datetime
    until: datetime
    as_of: datetime

    def __post_init__(self) -> None:
        for name in ("since", "until", "as_of"):
            if getattr(self, name).tzinfo is None:
                raise ValueError(f"window {name} {getattr(self, name)} has no time zone")
        if not self.since < self.until <= self.as_of:
            raise ValueError(
                f"window {self.since} .. {self.until}, as of {self.as_of}: expected since before "
                "until, and as_of not before until"
            )


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One retraining."""

    model: str = "rag_embedding_model"
    """The registered name that a new version belongs to."""
    champion: str | None = None
    """The version that must be beaten; None: the frozen encoder, before anything was released."""
    window: Window
    route: str | None = None
    """None: every route's traffic."""
    evaluation: str | None = None
    """The late score that counts, by name; None: the row's `relevance_score`."""
    labelling: Labelling = Labelling.TOP_ANSWER
    minimum_score: float = 0.5
    min_samples: int = 100
    """Valid samples needed: judged queries whose right document is known."""
    max_rows: int = 100_000
    """More rows than this are sampled, by the seed."""
    trainer: TrainerKind = TrainerKind.LINEAR_ADAPTER
    seed: int = 7
    slice_margin: float = 0.05
    """A slice of the held-out queries may lose this much MRR, beyond chance, before the version is
    refused."""

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("model is empty; expected a registered name")
        if not 0.0 <= self.minimum_score <= 1.0:
            raise ValueError(f"minimum_score {self.minimum_score} is outside 0..1")
        if self.min_samples < 1:
            raise ValueError(f"min_samples {self.min_samples} is below 1")
        if not 1 <= self.max_rows <= MAX_ROWS:
            raise ValueError(f"max_rows {self.max_rows} is outside 1..{MAX_ROWS:,}")
        if not 0.0 <= self.slice_margin <= 1.0:
            raise ValueError(f"slice_margin {self.slice_margin} is outside 0..1")

    @property
    def digest(self) -> str:
        """32 characters; equal plans have equal ones."""
        return blake2b(msgspec.json.encode(self), digest_size=16).hexdigest()

    def selection(self) -> Selection:
        """The rows of this plan."""
        return Selection(
            limit=self.max_rows,
            since=self.window.since,
            until=self.window.until,
            as_of=self.window.as_of,
            route=self.route,
            evaluation=self.evaluation,
            only_evaluated=self.evaluation is not None,
            seed=self.seed,
        )
