"""How a step can end: with its report, or stopped for one of the reasons here. Pure.

A stop is a result, not an accident: the data or the model said that going on would be wrong. What
the outside world does (ClickHouse away, a full disk) is an exception, and the step is repeated.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Step(StrEnum):
    """The steps, in their order."""

    EXTRACT = "extract"
    VALIDATE = "validate"
    TRAIN = "train"
    EVALUATE = "evaluate"
    REGISTER = "register"


class StopReason(StrEnum):
    """Why nothing is registered."""

    EMPTY_STORE = "empty_store"
    SCHEMA_DRIFT = "schema_drift"
    NOT_FINITE = "not_finite"
    ONE_CLASS = "one_class"
    TOO_FEW_SAMPLES = "too_few_samples"
    NOT_BETTER = "not_better"
    SLICE_WORSE = "slice_worse"


class Stopped(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The step refused to go on; every later step of the partition answers with the same."""

    step: Step
    reason: StopReason
    sentence: str
    """What was found and what was needed, with the numbers."""


class Extracted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Rows and documents lie in the partition."""

    rows: int
    scored_rows: int
    documents: int
    documents_digest: str
    rows_digest: str
    """Of the rows' ids: tells whether two extractions of one window saw the same rows."""
    first_ended_at: str
    last_ended_at: str


class Validated(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Queries with their right documents, split; no query is in two splits."""

    training_pairs: int
    validation_pairs: int
    held_out_pairs: int
    dropped: dict[str, int]
    """Rows that were left out, by why."""

    @property
    def samples(self) -> int:
        """Pairs of all splits: what has to reach the minimum."""
        return self.training_pairs + self.validation_pairs + self.held_out_pairs


class Trained(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A model and its index lie in the partition, without a version number yet."""

    trainer: str
    encoder: str
    dimension: int
    index_digest: str
    epochs: int
    best_epoch: int
    validation_mrr: float
    frozen_validation_mrr: float
    """Of the encoder before training, on the same queries."""
    seconds: float


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A mean with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


class SliceGain(msgspec.Struct, frozen=True, kw_only=True):
    """The gain in MRR over the baseline on some of the held-out queries."""

    name: str
    queries: int
    gain: Interval


class Evaluated(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Better than the champion beyond chance, and in no slice worse."""

    queries: int
    baseline: str
    """What it was compared with: the champion's version, or the frozen encoder."""
    metrics: dict[str, float]
    """Of the candidate on held-out queries: `mrr`, `recall_at_1` and so on, `queries`, and
    `mrr_stderr`; what the registry takes."""
    gain: Interval
    slices: list[SliceGain]
    latency_p50_ms: float
    """Of one query alone, from its text to its documents, on this machine."""
    latency_p95_ms: float
    model_bytes: int
    """Of trained weights and index."""
    report: str
    """The HTML page, as a path below the partition."""
    sentence: str


class Registered(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Logged, registered, and stored where model servers fetch it. No alias points at it yet."""

    model: str
    version: str
    run_id: str
    uri: str
    """Of its files in the artifact store."""


Report = Extracted | Validated | Trained | Evaluated | Registered
Outcome = Report | Stopped

STOPPED_EXIT_CODE = 99
"""Of the command when a step stops: what Airflow takes for "skip" unless told otherwise."""
