"""The steps of the retraining pipeline: each builds what it needs and calls the library."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from dags.step_results import BadRequest, Refused, request_of
from mlops.artifact_store import MinIOArtifactStore
from mlops.config import MlopsConfig
from mlops.feature_store import ClickHouseFeatureStore
from mlops.mlflow_tracker import RAGModelTracker
from mlops.model_registry import NotReleased, RAGModelRegistry
from mlops.pipelines.account import Account, Ending, Released, account_of, sentence_of
from mlops.pipelines.releasing import (
    NothingToRelease,
    Releasing,
    keep_release,
    kept_release,
)
from mlops.pipelines.request import RetrainingRequest, plan_of
from mlops.serving.corpus import load_corpus
from mlops.serving.files import write_whole
from mlops.training import steps
from mlops.training.documents import Documents
from mlops.training.outcomes import Outcome, Registered, Step, Stopped
from mlops.training.partition import Partition, PartitionConflict, StepMissing

ACCOUNT = "account.json"
CORPUS = "corpus"

log = logging.getLogger(__name__)


def extract(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """Begin the partition. A retry goes on with the plan of the first try, and its champion."""
    request, partition = _asked(config, content)
    try:
        try:
            champion = partition.plan().champion
        except StepMissing:
            champion = steps.champion_of(RAGModelRegistry(config), request.model)
        plan = plan_of(request, min_samples=config.retraining.min_samples, champion=champion)
        with ClickHouseFeatureStore(config.clickhouse) as store:
            documents = _documents(request, config.retraining.data_path)
            found = steps.extract(plan, partition, store=store, documents=documents)
    except (PartitionConflict, ValueError) as error:
        raise BadRequest(str(error)) from error
    return _told(found)


def validate(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """Rows to pairs."""
    _, partition = _asked(config, content)
    return _told(steps.validate(partition))


def train(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """Pairs to a model with its index."""
    _, partition = _asked(config, content)
    return _told(steps.train(partition, progress=_Progress()))


def evaluate(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """The model against the champion that the plan names."""
    _, partition = _asked(config, content)
    champion = steps.fetch_champion(partition.plan(), partition, MinIOArtifactStore(config.minio))
    return _told(steps.evaluate(partition, champion=champion, progress=_Progress()))


def register(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """The model to MLflow and to the artifact store."""
    _, partition = _asked(config, content)
    registry = RAGModelRegistry(config)
    with RAGModelTracker(config.mlflow) as tracker:  # a run that breaks off is FAILED till a retry
        found = steps.register(
            partition,
            tracker=tracker,
            registry=registry,
            artifacts=MinIOArtifactStore(config.minio),
        )
    return _told(found)


def deploy(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """The registered version to a release, once."""
    request, partition = _asked(config, content)
    kept = kept_release(partition.path)
    if kept is None:
        registered = _registered(partition)
        releasing = Releasing(config, RAGModelRegistry(config))
        kept = asyncio.run(releasing.begin(request, registered))
        keep_release(partition.path, kept)
    return _release_told(kept)


def follow(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """The registry's aliases to where the release has come."""
    _, partition = _asked(config, content)
    kept = kept_release(partition.path)
    if kept is None:
        raise NothingToRelease(f"{partition.path}: no release was begun")
    releasing = Releasing(config, RAGModelRegistry(config))
    now = asyncio.run(releasing.follow(kept))
    keep_release(partition.path, now)
    return _release_told(now)


def report(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """How the run ended: kept in the partition; fails where it did not come to an end."""
    request, partition = _asked(config, content)
    kept = kept_release(partition.path)
    if kept is not None:
        releasing = Releasing(config, RAGModelRegistry(config))
        try:
            kept = asyncio.run(releasing.follow(kept))
        except NotReleased:
            kept = asyncio.run(releasing.look(kept.model, kept.release_id))
        keep_release(partition.path, kept)
    account = account_of(request.partition, {one: partition.outcome(one) for one in Step}, kept)
    write_whole(partition.path / ACCOUNT, msgspec.json.format(msgspec.json.encode(account)))
    for line in account.lines:
        log.info("%-9s %s", line.step, line.what)
    return _account_told(account)


STEPS: Mapping[str, Callable[[MlopsConfig, bytes], Mapping[str, Any]]] = {
    "extract": extract,
    "validate": validate,
    "train": train,
    "evaluate": evaluate,
    "register": register,
    "deploy": deploy,
    "follow": follow,
    "report": report,
}


class _Progress:
    """A line in the log for each tenth of a long piece of work."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        tenth = 10 * done // max(1, total)
        if tenth != self._told.get(what):
            self._told[what] = tenth
            log.info("%s: %d of %d", what, done, total)


def _asked(config: MlopsConfig, content: bytes) -> tuple[RetrainingRequest, Partition]:
    request = request_of(content, RetrainingRequest)
    try:
        return request, Partition(config.retraining.data_path, request.partition)
    except ValueError as error:
        raise BadRequest(str(error)) from error


def _documents(request: RetrainingRequest, data_path: Path) -> Documents:
    if request.documents is None:
        return Documents.of_corpus(load_corpus(data_path / CORPUS))
    try:
        return msgspec.json.decode(Path(request.documents).read_bytes(), type=Documents)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadRequest(f"documents {request.documents}: {error}") from error


def _registered(partition: Partition) -> Registered:
    found = partition.required(Step.REGISTER)
    if isinstance(found, Stopped):
        raise Refused(sentence_of(found))
    assert isinstance(found, Registered), f"register left a {type(found).__name__}"
    return found


def _told(found: Outcome) -> Mapping[str, Any]:
    if isinstance(found, Stopped):
        raise Refused(sentence_of(found))
    return _fields(found) | {"sentence": sentence_of(found)}


def _release_told(released: Released) -> Mapping[str, Any]:
    sentence = f"release {released.release_id} of {released.version} is {released.phase}"
    return _fields(released) | {"sentence": sentence}


def _account_told(account: Account) -> Mapping[str, Any]:
    if account.ending is Ending.UNFINISHED:
        raise BadRequest(f"{account.partition} is not finished: {account.sentence}")
    return _fields(account)


def _fields(value: msgspec.Struct) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(value)
    return found
