"""From logged traffic to a registered version, against a real engine, MLflow and S3 server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from mlops.artifact_store import MinIOArtifactStore
from mlops.mlflow_tracker import RAGModelTracker
from mlops.model_registry import RAGModelRegistry
from mlops.serving.corpus import Corpus
from mlops.serving.embedder import Embedder
from mlops.serving.model import Model, document_vectors, read_adapter, read_manifest
from mlops.training import steps
from mlops.training.documents import Documents
from mlops.training.labelling import Split
from mlops.training.outcomes import Registered, Step
from mlops.training.pair_files import read_pairs
from mlops.training.partition import Partition
from mlops.training.plan import Plan
from tests.component.training.conftest import Servers

pytestmark = pytest.mark.timeout(300)
"""MLflow logs and reads a model: 10 s on a quiet machine, over a minute on a busy one."""


def test_traffic_becomes_a_registered_version(
    evaluated: Partition,
    servers: Servers,
    artifacts: MinIOArtifactStore,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition, plan = evaluated, evaluated.plan()
    registry = RAGModelRegistry(servers.config)
    with RAGModelTracker(servers.config.mlflow) as tracker:
        # Killed between registering and storing: the retry goes on with the same run and version.
        broken = _AwayStore()
        with pytest.raises(ConnectionError):
            steps.register(partition, tracker=tracker, registry=registry, artifacts=broken)
        done = steps.register(partition, tracker=tracker, registry=registry, artifacts=artifacts)
        again = steps.register(partition, tracker=tracker, registry=registry, artifacts=artifacts)
    assert isinstance(done, Registered)
    assert again == done
    (version,) = registry.history(plan.model)
    assert (version.version, version.run_id, version.aliases) == ("1.0.0", done.run_id, ())
    _check_run(servers, done, plan)
    _check_pyfunc(servers, done, corpus, monkeypatch)
    _check_served(artifacts, done, corpus, tmp_path)


class _AwayStore(MinIOArtifactStore):
    """Not there, as far as an upload can tell."""

    def __init__(self) -> None:
        pass

    def upload_model(self, *_: object, **__: object) -> str:
        raise ConnectionError("the store is away")


def _check_run(servers: Servers, done: Registered, plan: Plan) -> None:
    client = MlflowClient(servers.config.mlflow.tracking_uri)
    run = client.get_run(done.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["data.since"] == plan.window.since.isoformat()
    assert run.data.params["seed"] == "7"
    assert run.data.metrics["mrr_gain_low"] > 0
    experiment = client.get_experiment_by_name("e")
    runs = client.search_runs(
        [experiment.experiment_id], f"attributes.run_name LIKE '{plan.model} %'"
    )
    assert [one.info.run_id for one in runs] == [done.run_id]
    files = {one.path for one in client.list_artifacts(done.run_id, "evaluation")}
    assert {"evaluation/report.html", "evaluation/measures.png", "evaluation/slices.png"} <= files


def _check_pyfunc(
    servers: Servers, done: Registered, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", servers.config.mlflow.tracking_uri)
    mlflow.set_tracking_uri(servers.config.mlflow.tracking_uri)
    model = mlflow.pyfunc.load_model(f"runs:/{done.run_id}/model")
    assert model.metadata.signature.inputs.input_names() == ["query_text"]
    assert model.input_example["query_text"].tolist()
    question = next(one for one in corpus.documents if one.id == "numpy.arctan2")
    found = model.predict(pd.DataFrame({"query_text": [question.summary]}), params={"top_k": 3})
    (ids,) = found["document_ids"]
    assert len(ids) == 3
    assert question.id in ids


def _check_served(
    artifacts: MinIOArtifactStore, done: Registered, corpus: Corpus, tmp_path: Path
) -> None:
    """What a model server fetches is a version that it can serve, with the number it was given."""
    folder = tmp_path / "fetched"
    artifacts.download_model(done.model, done.version, folder)
    manifest = read_manifest(folder)
    assert (manifest.version, manifest.corpus_digest) == (done.version, corpus.digest)
    adapter = read_adapter(folder, manifest)
    assert adapter is not None
    embedder = Embedder().weighted(adapter.token_weights)
    served = Model(
        manifest,
        embedder,
        adapter,
        corpus,
        document_vectors(corpus, embedder, tmp_path),
    )
    vector, _ = served.embed("Element-wise arc tangent choosing the quadrant correctly")
    assert served.nearest(vector, 1)[0].document.id


def test_training_again_gives_the_same_bytes(
    evaluated: Partition, copied: Callable[[Step], Partition]
) -> None:
    other = copied(Step.TRAIN)
    shutil.rmtree(other.path / "model")
    steps.train(other)
    for name in ("adapter.npz", "training.json"):
        made, again = ((one.path / "model" / name).read_bytes() for one in (evaluated, other))
        assert made == again


def test_no_query_is_in_two_splits_and_no_trainer_sees_a_held_out_one(evaluated: Partition) -> None:
    pairs = read_pairs(evaluated.path)
    keys = [one.query_key for one in pairs]
    assert len(keys) == len(set(keys))
    assert {one.split for one in pairs} == set(Split)
    held_out = {one.query_key for one in pairs if one.split is Split.HELD_OUT}
    with pytest.raises(AssertionError, match="no trainer sees"):
        steps.Material(pairs=pairs, documents=Documents.read(evaluated.path), folder=evaluated.path)
    assert held_out


def test_the_report_says_the_verdict_and_names_no_query(evaluated: Partition) -> None:
    page = (evaluated.path / "evaluation/report.html").read_text()
    assert "<b>better</b>" in page
    assert "BM25" in page
    assert "data:image/png;base64" in page
    for one in read_pairs(evaluated.path)[:50]:
        assert one.query_text not in page
