"""The steps of a retraining, one function each: what a pipeline calls.

    extract -> validate -> train -> evaluate -> register

Each reads what the steps before it left in the partition, writes its own files and then its report,
and returns that report, or `Stopped`. Called again it returns the same without doing anything;
after a crash it is simply called again. After a stop every later step returns that stop.
What the world does (ClickHouse, MLflow or S3 away) is raised and worth a retry.
"""

from __future__ import annotations

from pathlib import Path

from mlops.artifact_store import MinIOArtifactStore
from mlops.feature_store import ClickHouseFeatureStore
from mlops.mlflow_tracker import RAGModelTracker
from mlops.model_registry import RAGModelRegistry
from mlops.training.documents import Documents
from mlops.training.outcomes import (
    Evaluated,
    Extracted,
    Registered,
    Stopped,
    Trained,
    Validated,
)
from mlops.training.partition import Partition
from mlops.training.plan import Plan
from mlops.training.progress import SILENT, Progress


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
    raise NotImplementedError


def validate(partition: Partition) -> Validated | Stopped:
    """Check the rows, find each query's right document, and split the queries by their hash.

    Raises:
        StepMissing: `extract` has not been done.
    """
    raise NotImplementedError


def train(partition: Partition, *, progress: Progress = SILENT) -> Trained | Stopped:
    """Embed what is new in batches, train, and build the index with what was trained.

    Raises:
        StepMissing: `validate` has not been done.
        MissingExtra: the plan's trainer needs libraries that are not installed.
    """
    raise NotImplementedError


def evaluate(
    partition: Partition, *, champion: Path | None, progress: Progress = SILENT
) -> Evaluated | Stopped:
    """Compare with the champion and with BM25 on queries that no trainer saw.

    Args:
        champion: folder of the version that the plan names, as `fetch_champion` brings it; None
            where the plan names none.

    Raises:
        StepMissing: `train` has not been done.
        BadModel: `champion` is not the version that the plan names, or cannot be loaded.
    """
    raise NotImplementedError


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
    raise NotImplementedError


def champion_of(registry: RAGModelRegistry, model: str) -> str | None:
    """The version to name in a new plan: what `champion` means now; None before the first.

    Raises:
        TrackingUnavailable: MLflow is away.
    """
    raise NotImplementedError


def fetch_champion(plan: Plan, partition: Partition, artifacts: MinIOArtifactStore) -> Path | None:
    """Bring the plan's champion into the partition; None where the plan names none.

    Raises:
        UnknownArtifact: the artifact store does not hold that version.
        StoreUnavailable: the store is away.
    """
    raise NotImplementedError
