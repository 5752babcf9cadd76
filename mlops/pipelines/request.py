"""What a run of the retraining pipeline is asked for, and the plan that follows. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from mlops.training.plan import Labelling, Plan, TrainerKind, Window


class RetrainingRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Made once by a run, and handed to each of its steps. Times are ISO 8601 with a zone."""

    partition: str
    """Of this run alone: made from its data interval and its name, so a retry finds it again."""
    since: datetime
    until: datetime
    as_of: datetime
    model: str = "rag_embedding_model"
    route: str | None = None
    """Whose traffic is learned from, and where the version is released; None: all, and the one
    route that serves the model."""
    evaluation: str | None = None
    labelling: Labelling = Labelling.TOP_ANSWER
    minimum_score: float = 0.5
    min_samples: int | None = None
    """None: `MLOPS_RETRAINING_MIN_SAMPLES`."""
    max_rows: int = 100_000
    trainer: TrainerKind = TrainerKind.LINEAR_ADAPTER
    seed: int = 7
    documents: str | None = None
    """A file of `Documents` (JSON) to build the index of; None: those of the model server here."""
    policy: dict[str, Any] | None = None
    """Of the release; None: what `MLOPS_DEPLOYMENT_STRATEGY` and its percentage say."""
    reason: str = "scheduled"

    @property
    def release_reason(self) -> str:
        """Tells this run's release from every other: a retry looks for it at the agent."""
        return f"retraining {self.partition} ({self.reason})"


def plan_of(request: RetrainingRequest, *, min_samples: int, champion: str | None) -> Plan:
    """The plan of a request.

    Args:
        request: what is asked for.
        min_samples: the setting; holds unless the request says another number.
        champion: the version to beat.

    Raises:
        ValueError: a value does not fit; the message names it.
    """
    return Plan(
        model=request.model,
        champion=champion,
        window=Window(since=request.since, until=request.until, as_of=request.as_of),
        route=request.route,
        evaluation=request.evaluation,
        labelling=request.labelling,
        minimum_score=request.minimum_score,
        min_samples=min_samples if request.min_samples is None else request.min_samples,
        max_rows=request.max_rows,
        trainer=request.trainer,
        seed=request.seed,
    )
