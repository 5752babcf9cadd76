"""The steps of a retraining, one function each: what a pipeline calls.

    extract -> validate -> train -> evaluate -> register

Each reads what the steps before it left in the partition, writes its own files and then its report,
and returns that report, or `Stopped`. Called again it returns the same without doing anything;
after a crash it is simply called again. After a stop every later step returns that stop.
What the world does (ClickHouse, MLflow or S3 away) is raised and worth a retry.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TypeVar

from pyarrow import parquet

from mlops.artifact_store import MinIOArtifactStore
from mlops.evaluation.comparison import Answer
from mlops.evaluation.metrics import Estimate, registry_metrics
from mlops.feature_store import ClickHouseFeatureStore
from mlops.mlflow_tracker import RAGModelTracker
from mlops.model_registry import Alias, RAGModelRegistry
from mlops.training.documents import Documents
from mlops.training.evaluating import CANDIDATE, Measured, measure, write_report
from mlops.training.extraction import narrowed, nothing_found, rows_digest, schema_problem
from mlops.training.labelling import Split, label
from mlops.training.outcomes import (
    Evaluated,
    Extracted,
    Interval,
    Outcome,
    Registered,
    SliceGain,
    Step,
    Stopped,
    StopReason,
    Trained,
    Validated,
)
from mlops.training.pair_files import read_pairs, write_pairs, write_table
from mlops.training.partition import Partition
from mlops.training.plan import Plan
from mlops.training.progress import SILENT, Progress
from mlops.training.registering import log_and_register
from mlops.training.trainers import Material, Trainer, trainer_of
from mlops.training.validation import labels_problem, rows_problem
from mlops.training.versions import write_version

ROWS = "rows.parquet"
MODEL = "model"
"""Folder of the trained version in the partition."""

R = TypeVar("R", Extracted, Validated, Trained, Evaluated, Registered)


def extract(
    plan: Plan,
    partition: Partition,
    *,
    store: ClickHouseFeatureStore,
    documents: Documents,
) -> Extracted | Stopped:
    """Begin the partition: the window's rows, as of its moment, and the documents.

    Raises:
        PartitionConflict: the partition was begun with another plan.
        Unavailable: ClickHouse is away.
    """
    partition.begin(plan)
    if (done := _done(partition, Step.EXTRACT, Extracted)) is not None:
        return done
    selection = plan.selection()
    table = store.get_training_data(selection.limit, selection=selection).to_arrow()
    if problem := schema_problem(table):
        return _stop(partition, Step.EXTRACT, StopReason.SCHEMA_DRIFT, problem)
    if not table.num_rows:
        return _stop(partition, Step.EXTRACT, StopReason.EMPTY_STORE, nothing_found(plan))
    rows = narrowed(table)
    write_table(partition.path / ROWS, rows)
    documents.write(partition.path)
    ended = rows.column("ended_at")
    report = Extracted(
        rows=rows.num_rows,
        scored_rows=rows.num_rows - rows.column("score").null_count,
        documents=len(documents),
        documents_digest=documents.digest,
        rows_digest=rows_digest(rows),
        first_ended_at=ended[0].as_py().isoformat(),
        last_ended_at=ended[-1].as_py().isoformat(),
    )
    partition.finish(Step.EXTRACT, report)
    return report


def validate(partition: Partition) -> Validated | Stopped:
    """Check the rows, find each query's right document, and split the queries by their hash.

    Raises:
        StepMissing: `extract` has not been done.
    """
    if (done := _done(partition, Step.VALIDATE, Validated)) is not None:
        return done
    partition.required(Step.EXTRACT)
    plan = partition.plan()
    rows = parquet.read_table(partition.path / ROWS)
    known = frozenset(Documents.read(partition.path).ids)
    if (problem := rows_problem(rows, known)) is not None:
        return _stop(partition, problem.step, problem.reason, problem.sentence)
    labelled = label(rows.to_pylist(), plan, known)
    if (problem := labels_problem(labelled, plan)) is not None:
        return _stop(partition, problem.step, problem.reason, problem.sentence)
    write_pairs(partition.path, labelled.pairs)
    counted = {split: sum(one.split is split for one in labelled.pairs) for split in Split}
    report = Validated(
        training_pairs=counted[Split.TRAINING],
        validation_pairs=counted[Split.VALIDATION],
        held_out_pairs=counted[Split.HELD_OUT],
        dropped={str(reason): count for reason, count in labelled.dropped.items()},
    )
    partition.finish(Step.VALIDATE, report)
    return report


def train(
    partition: Partition, *, trainer: Trainer | None = None, progress: Progress = SILENT
) -> Trained | Stopped:
    """Embed what is new in batches, train, and build the index with what was trained.

    `trainer` is by default the one that the plan asks for.

    Raises:
        StepMissing: `validate` has not been done.
        MissingExtra: the plan's trainer needs libraries that are not installed.
    """
    if (done := _done(partition, Step.TRAIN, Trained)) is not None:
        return done
    partition.required(Step.VALIDATE)
    plan = partition.plan()
    chosen = trainer or trainer_of(plan.trainer)
    documents = Documents.read(partition.path)
    pairs = [one for one in read_pairs(partition.path) if one.split is not Split.HELD_OUT]
    material = Material(pairs=pairs, documents=documents, folder=partition.path)
    out = partition.path / MODEL
    started_s = perf_counter()
    training = chosen.train(material, out, seed=plan.seed, progress=progress)
    description = write_version(out, training, documents, trainer=plan.trainer, seed=plan.seed)
    report = Trained(
        trainer=plan.trainer,
        encoder=description.encoder,
        dimension=description.dimension,
        index_digest=description.index_digest,
        epochs=training.epochs,
        best_epoch=training.best_epoch,
        validation_mrr=training.validation_mrr,
        frozen_validation_mrr=training.frozen_validation_mrr,
        seconds=round(perf_counter() - started_s, 3),
    )
    partition.finish(Step.TRAIN, report)
    return report


def evaluate(
    partition: Partition, *, champion: Path | None, progress: Progress = SILENT
) -> Evaluated | Stopped:
    """Compare with the champion and with BM25 on queries that no trainer saw.

    Args:
        partition: in which `train` has been done.
        champion: folder of the version that the plan names, as `fetch_champion` brings it; None
            where the plan names none.
        progress: told about embeddings.

    Raises:
        StepMissing: `train` has not been done.
        BadModel: `champion` is not the version that the plan names, or cannot be loaded.
        ValueError: the plan names a champion and none is given, or the other way round.
    """
    if (done := _done(partition, Step.EVALUATE, Evaluated)) is not None:
        return done
    partition.required(Step.TRAIN)
    plan = partition.plan()
    if (plan.champion is None) is not (champion is None):
        raise ValueError(f"the plan's champion is {plan.champion}, the folder given is {champion}")
    measured = measure(partition, plan, read_pairs(partition.path), champion, progress)
    report = write_report(partition, plan, measured)
    found = measured.comparison
    match found.answer:
        case Answer.NOT_BETTER:
            return _stop(partition, Step.EVALUATE, StopReason.NOT_BETTER, found.sentence)
        case Answer.SLICE_WORSE:
            return _stop(partition, Step.EVALUATE, StopReason.SLICE_WORSE, found.sentence)
        case Answer.BETTER:
            pass
    outcome = _evaluated(measured, report)
    partition.finish(Step.EVALUATE, outcome)
    return outcome


def register(
    partition: Partition,
    *,
    tracker: RAGModelTracker,
    registry: RAGModelRegistry,
    artifacts: MinIOArtifactStore,
) -> Registered | Stopped:
    """Log model, index and report as one MLflow run, register it, and store it for the servers.

    A retry finds the run and the version of the attempt before and goes on with them.

    Raises:
        StepMissing: `evaluate` has not been done.
        TrackingUnavailable, StoreUnavailable: MLflow or the artifact store is away.
    """
    if (done := _done(partition, Step.REGISTER, Registered)) is not None:
        return done
    evaluated = partition.required(Step.EVALUATE)
    assert isinstance(evaluated, Evaluated), "a stop was returned above"
    report = log_and_register(partition, evaluated, tracker, registry, artifacts)
    partition.finish(Step.REGISTER, report)
    return report


def champion_of(registry: RAGModelRegistry, model: str) -> str | None:
    """The version to name in a new plan: what `champion` means now; None before the first.

    Raises:
        TrackingUnavailable: MLflow is away.
    """
    found = (one for one in registry.history(model) if Alias.CHAMPION in one.aliases)
    champion = next(found, None)
    return champion.version if champion else None


def fetch_champion(plan: Plan, partition: Partition, artifacts: MinIOArtifactStore) -> Path | None:
    """Bring the plan's champion into the partition; None where the plan names none.

    Raises:
        UnknownArtifact: the artifact store does not hold that version.
        StoreUnavailable: the store is away.
    """
    if plan.champion is None:
        return None
    folder = partition.path / "champion" / plan.champion
    artifacts.download_model(plan.model, plan.champion, folder)
    return folder


def _done(partition: Partition, step: Step, kind: type[R]) -> R | Stopped | None:
    """What the step said before, or the stop that came before it."""
    if (stopped := partition.stopped()) is not None:
        return stopped
    outcome: Outcome | None = partition.outcome(step)
    assert outcome is None or isinstance(outcome, kind), f"{step} left a {type(outcome).__name__}"
    return outcome


def _stop(partition: Partition, step: Step, reason: StopReason, sentence: str) -> Stopped:
    stopped = Stopped(step=step, reason=reason, sentence=sentence)
    partition.finish(step, stopped)
    return stopped


def _evaluated(measured: Measured, report: str) -> Evaluated:
    found, cost = measured.comparison, measured.cost
    return Evaluated(
        queries=found.queries,
        baseline=found.baseline,
        metrics=registry_metrics(measured.ranks[CANDIDATE]),
        gain=_interval(found.gain),
        slices=[
            SliceGain(name=one.name, queries=one.queries, gain=_interval(one.gain))
            for one in found.slices
        ],
        latency_p50_ms=cost.latency_p50_ms,
        latency_p95_ms=cost.latency_p95_ms,
        model_bytes=cost.model_bytes,
        report=report,
        sentence=found.sentence,
    )


def _interval(found: Estimate) -> Interval:
    return Interval(value=found.value, low=found.low, high=found.high)
