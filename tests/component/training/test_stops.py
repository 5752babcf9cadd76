"""Each bad case ends with its reason and a sentence, and nothing is registered."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace as dataclass_replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from mlops.artifact_store import MinIOArtifactStore
from mlops.feature_store import ClickHouseFeatureStore
from mlops.mlflow_tracker import RAGModelTracker
from mlops.model_registry import RAGModelRegistry
from mlops.serving.adapter import Adapter, adapted_documents
from mlops.serving.embedder import DIMENSION, EMBEDDING_MODEL
from mlops.serving.model import ADAPTER, BadModel, ModelManifest, write_model
from mlops.training import steps
from mlops.training.documents import Documents
from mlops.training.encoders import ServedEncoder
from mlops.training.fitting import worse_adapter
from mlops.training.outcomes import Extracted, Outcome, Step, Stopped, StopReason
from mlops.training.partition import Partition, PartitionConflict, StepMissing
from mlops.training.plan import Plan
from mlops.training.trainers import LinearAdapterTrainer, Material, Training, embed_documents
from tests.component.training.conftest import Row, Servers, new_plan, on_route

Changed = Callable[[Row, int], Row]


def outcome_of(
    tmp_path: Path, store: ClickHouseFeatureStore, documents: Documents, plan: Plan
) -> tuple[Partition, Outcome]:
    """What extraction and validation end with."""
    partition = Partition(tmp_path, "p")
    extracted = steps.extract(plan, partition, store=store, documents=documents)
    return partition, extracted if isinstance(extracted, Stopped) else steps.validate(partition)


def test_an_empty_store(
    tmp_path: Path,
    store: ClickHouseFeatureStore,
    documents: Documents,
    servers: Servers,
    route: str,
) -> None:
    plan = new_plan(route=route)
    partition, stopped = outcome_of(tmp_path, store, documents, plan)
    assert isinstance(stopped, Stopped)
    assert (stopped.step, stopped.reason) == (Step.EXTRACT, StopReason.EMPTY_STORE)
    assert "2026-01-24 12:00:00 to 2026-01-31 12:00:00" in stopped.sentence
    assert later_steps(partition, servers) == [stopped] * 4
    assert RAGModelRegistry(servers.config).history(plan.model) == []


def later_steps(partition: Partition, servers: Servers) -> list[Outcome]:
    """A pipeline that goes on regardless changes nothing."""
    artifacts = MinIOArtifactStore(servers.minio)
    with RAGModelTracker(servers.config.mlflow) as tracker:
        registered = steps.register(
            partition,
            tracker=tracker,
            registry=RAGModelRegistry(servers.config),
            artifacts=artifacts,
        )
    return [
        steps.validate(partition),
        steps.train(partition),
        steps.evaluate(partition, champion=None),
        registered,
    ]


def not_judged(row: Row, number: int) -> Row:
    return row if number < 40 else {**row, "relevance_score": None}


def not_a_number(row: Row, number: int) -> Row:
    scores = row["retrieved_scores"]
    return {**row, "retrieved_scores": [float("nan"), *scores[1:]] if number % 20 == 0 else scores}


def all_right(row: Row, number: int) -> Row:
    del number
    return {**row, "relevance_score": 1.0}


def all_wrong(row: Row, number: int) -> Row:
    del number
    return {**row, "relevance_score": 0.0}


def one_document(row: Row, number: int) -> Row:
    ids = ["numpy.sin", *(one for one in row["retrieved_ids"] if one != "numpy.sin")]
    return {**row, "retrieved_ids": ids[:20], "relevance_score": float(number % 2)}


def shorter_embeddings(row: Row, number: int) -> Row:
    return {**row, "embedding": row["embedding"][: 128 if number > 300 else DIMENSION]}


def other_documents(row: Row, number: int) -> Row:
    del number
    return {**row, "retrieved_ids": [f"old.{one}" for one in row["retrieved_ids"]]}


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        (not_judged, StopReason.TOO_FEW_SAMPLES, "40 judged answers, 100 valid samples are needed"),
        (not_a_number, StopReason.NOT_FINITE, "rows hold a NaN"),
        (all_right, StopReason.ONE_CLASS, "all .* judged answers were right"),
        (all_wrong, StopReason.ONE_CLASS, "none of .* judged answers was right"),
        (one_document, StopReason.ONE_CLASS, "one document was the answer"),
        (shorter_embeddings, StopReason.SCHEMA_DRIFT, "of 128, .* of 256 numbers"),
        (other_documents, StopReason.SCHEMA_DRIFT, "not the documents that were searched"),
    ],
)
def test_data_that_cannot_be_trained_on(
    change: Changed,
    reason: StopReason,
    said: str,
    tmp_path: Path,
    store: ClickHouseFeatureStore,
    documents: Documents,
    traffic: list[Row],
    servers: Servers,
    route: str,
) -> None:
    plan = new_plan(route=route)
    store.store_many(on_route((change(row, number) for number, row in enumerate(traffic)), route))
    partition, stopped = outcome_of(tmp_path, store, documents, plan)
    assert isinstance(stopped, Stopped)
    assert (stopped.step, stopped.reason) == (Step.VALIDATE, reason)
    assert re.search(said, stopped.sentence)
    assert later_steps(partition, servers) == [stopped] * 4
    assert RAGModelRegistry(servers.config).history(plan.model) == []


def test_a_table_with_other_columns(
    tmp_path: Path,
    documents: Documents,
    store: ClickHouseFeatureStore,
    traffic: list[Row],
    route: str,
) -> None:
    """As after a migration that this version does not know."""
    store.store_many(on_route(traffic[:5], route))
    found = store.get_training_data(5, route=route)
    table = found.to_arrow()
    changed = table.drop_columns(["score"]).rename_columns({"retrieved_ids": "documents"})

    class Other(ClickHouseFeatureStore):
        def __init__(self) -> None:
            pass

        def get_training_data(self, *_: Any, **__: Any) -> Any:
            return type(found)(changed)

    stopped = steps.extract(
        new_plan(), Partition(tmp_path, "p"), store=Other(), documents=documents
    )
    assert isinstance(stopped, Stopped)
    assert stopped.reason is StopReason.SCHEMA_DRIFT
    assert stopped.sentence == (
        "score is missing, expected number; retrieved_ids is missing, expected list of text"
    )


class WorseTrainer(LinearAdapterTrainer):
    """A run whose representation collapsed."""

    def train(self, material: Material, out: Path, **options: Any) -> Training:
        made = super().train(material, out, **options)
        collapsed = worse_adapter(8, DIMENSION, seed=1)
        (out / ADAPTER).write_bytes(collapsed.to_bytes())
        frozen = embed_documents(material.documents, self._encoder, material.folder)
        return dataclass_replace(made, index=adapted_documents(frozen, collapsed))


def test_a_worse_model_is_never_registered(
    copied: Callable[[Step], Partition], servers: Servers
) -> None:
    partition = copied(Step.TRAIN)
    shutil.rmtree(partition.path / "model")
    steps.train(partition, trainer=WorseTrainer(ServedEncoder()))
    stopped = steps.evaluate(partition, champion=None)
    assert isinstance(stopped, Stopped)
    assert stopped.reason is StopReason.NOT_BETTER
    assert "not clear of chance" in stopped.sentence
    assert later_steps(partition, servers)[-1] == stopped
    registry = RAGModelRegistry(servers.config)
    assert registry.history(partition.plan().model) == []
    assert (partition.path / "evaluation/report.html").exists()  # says why


def champion(folder: Path, version: str, adapter: Adapter | None, documents: Documents) -> Path:
    manifest = ModelManifest(
        name="retriever",
        version=version,
        embedding_model=EMBEDDING_MODEL,
        dimension=DIMENSION,
        adapter=ADAPTER if adapter else None,
        corpus_digest=documents.digest,
    )
    write_model(folder, manifest, adapter)
    return folder


def with_champion(partition: Partition, version: str) -> Partition:
    plan = replace(partition.plan(), champion=version)
    (partition.path / "plan.json").unlink()
    partition.begin(plan)
    return partition


def test_a_model_as_good_as_the_champion_is_not_better(
    copied: Callable[[Step], Partition], documents: Documents, tmp_path: Path
) -> None:
    partition = with_champion(copied(Step.EVALUATE), "1.0.0")
    adapter = Adapter.from_bytes((partition.path / "model" / ADAPTER).read_bytes())
    folder = champion(tmp_path / "c", "1.0.0", adapter, documents)
    stopped = steps.evaluate(partition, champion=folder)
    assert isinstance(stopped, Stopped)
    assert stopped.reason is StopReason.NOT_BETTER
    assert "MRR +0.000 over champion 1.0.0" in stopped.sentence


def test_a_champion_that_the_plan_does_not_name_is_a_mistake(
    copied: Callable[[Step], Partition], documents: Documents, tmp_path: Path
) -> None:
    partition = with_champion(copied(Step.EVALUATE), "1.0.0")
    with pytest.raises(BadModel, match=r"version 2\.0\.0; the plan names 1\.0\.0"):
        steps.evaluate(partition, champion=champion(tmp_path / "c", "2.0.0", None, documents))
    with pytest.raises(ValueError, match=r"champion is 1\.0\.0, the folder given is None"):
        steps.evaluate(partition, champion=None)


def test_steps_out_of_order_are_a_mistake(tmp_path: Path) -> None:
    partition = Partition(tmp_path, "p")
    with pytest.raises(StepMissing, match="extract"):
        steps.validate(partition)
    with pytest.raises(StepMissing, match="validate"):
        steps.train(partition)


def test_a_partition_keeps_its_plan(
    tmp_path: Path,
    store: ClickHouseFeatureStore,
    documents: Documents,
    traffic: list[Row],
    route: str,
) -> None:
    store.store_many(on_route(traffic[:5], route))
    plan, partition = new_plan(route=route), Partition(tmp_path, "p")
    first = steps.extract(plan, partition, store=store, documents=documents)
    assert isinstance(first, Extracted)
    # Rows that come late are of another partition.
    store.store_many(on_route(traffic[5:9], route))
    assert steps.extract(plan, partition, store=store, documents=documents) == first
    with pytest.raises(PartitionConflict):
        steps.extract(replace(plan, seed=8), partition, store=store, documents=documents)
