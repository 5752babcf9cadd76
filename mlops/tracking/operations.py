"""What can be asked of a run, as values: sent at once, or kept in a queue on disk until MLflow is
back. Each may be sent twice without harm, so that a crash between sending and noting costs nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

LOCAL_ID_TAG: Final = "rag_mlops.local_id"
"""Tag by which a run that was queued is found again, so that it is not made twice."""

MAX_BATCH_METRICS: Final = 1000
"""MLflow's bound on one call."""
MAX_BATCH_OTHERS: Final = 100
"""MLflow's bound on parameters, and on tags, in one call."""


class _Operation(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all; the tag in the queue's lines is the name of the class."""

    run_id: str
    """MLflow's, or the local one of a run that MLflow does not know yet."""


class Create(_Operation, frozen=True, kw_only=True, tag=True):
    """A new run; `run_id` is its local name."""

    experiment: str
    name: str
    started_ms: int
    tags: dict[str, str]


class Log(_Operation, frozen=True, kw_only=True, tag=True):
    """Metrics, parameters and tags."""

    at_ms: int
    step: int = 0
    metrics: dict[str, float] = {}
    parameters: dict[str, str] = {}
    tags: dict[str, str] = {}


class LogDataset(_Operation, frozen=True, kw_only=True, tag=True):
    """What a run was trained or measured on."""

    name: str
    digest: str
    source: str
    rows: int
    context: str


class Upload(_Operation, frozen=True, kw_only=True, tag=True):
    """A file or a folder into the run's artifacts."""

    path: str
    artifact_path: str | None


class End(_Operation, frozen=True, kw_only=True, tag=True):
    """The run is over."""

    status: str
    at_ms: int


Operation = Create | Log | LogDataset | Upload | End


def create(client: MlflowClient, operation: Create) -> str:
    """Make the run, or find it if it was made before; MLflow's id of it."""
    experiment_id = _experiment(client, operation.experiment)
    found = client.search_runs(
        [experiment_id], f"tags.`{LOCAL_ID_TAG}` = '{operation.run_id}'", max_results=1
    )
    if found:
        return str(found[0].info.run_id)
    run = client.create_run(
        experiment_id,
        start_time=operation.started_ms,
        run_name=operation.name,
        tags={**operation.tags, LOCAL_ID_TAG: operation.run_id},
    )
    return str(run.info.run_id)


def perform(client: MlflowClient, operation: Operation, run_id: str) -> None:
    """Do one operation of a run that exists; `run_id` is MLflow's."""
    match operation:
        case Create():
            raise AssertionError("a run is made by `create`, which gives its id")
        case Log():
            _log(client, operation, run_id)
        case LogDataset():
            dataset = Dataset(
                name=operation.name,
                digest=operation.digest,
                source_type="uri",
                source=operation.source,
                profile=msgspec.json.encode({"num_rows": operation.rows}).decode(),
            )
            context = InputTag("mlflow.data.context", operation.context)
            client.log_inputs(run_id, [DatasetInput(dataset, [context])])
        case Upload():
            path = Path(operation.path)
            send = client.log_artifacts if path.is_dir() else client.log_artifact
            send(run_id, str(path), operation.artifact_path)
        case End():
            client.set_terminated(run_id, operation.status, operation.at_ms)


def _log(client: MlflowClient, operation: Log, run_id: str) -> None:
    metrics = [
        Metric(name, value, operation.at_ms, operation.step)
        for name, value in operation.metrics.items()
    ]
    parameters = [Param(name, value) for name, value in operation.parameters.items()]
    tags = [RunTag(name, value) for name, value in operation.tags.items()]
    for start in range(0, len(metrics), MAX_BATCH_METRICS):
        client.log_batch(run_id, metrics=metrics[start : start + MAX_BATCH_METRICS])
    for start in range(0, max(len(parameters), len(tags)), MAX_BATCH_OTHERS):
        part = slice(start, start + MAX_BATCH_OTHERS)
        client.log_batch(run_id, params=parameters[part], tags=tags[part])


def _experiment(client: MlflowClient, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    try:
        return str(client.create_experiment(name))
    except Exception:
        experiment = client.get_experiment_by_name(name)  # somebody else made it just now
        if experiment is None:
            raise
        return str(experiment.experiment_id)
