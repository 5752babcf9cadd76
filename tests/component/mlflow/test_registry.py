"""The registry against a real MLflow server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow import MlflowClient

from mlops.config import MlopsConfig, RegistryStage
from mlops.contracts.release import ReleaseStatus
from mlops.deployment import CanaryDeployment
from mlops.local.first_versions import register_first_versions
from mlops.mlflow_tracker import RAGModelTracker
from mlops.model_registry import (
    NotReleased,
    ProtectedVersion,
    RAGModelRegistry,
    TrackingUnavailable,
    UnknownVersion,
)

SPACE = {"embedding_model": "wordllama-256", "dimension": 256, "index": "a1"}


@pytest.fixture
def registry(config: MlopsConfig) -> RAGModelRegistry:
    return RAGModelRegistry(config)


@pytest.fixture
def run_id(config: MlopsConfig, tmp_path: Path) -> str:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights.bin").write_bytes(b"\x00\x01")
    with RAGModelTracker(config.mlflow) as tracker:
        made = tracker.start_training_run("embedding_model_v1")
        tracker.log_parameters(made, SPACE)
        tracker.log_artifact(made, tmp_path / "model", "model")
    return made


def release(version: str, phase: str) -> ReleaseStatus:
    return ReleaseStatus(
        id="r-1",
        route="rag",
        version=version,
        stable="1.0.0",
        phase=phase,
        step=3,
        steps=3,
        weight=0,
        generation=9,
        reason="",
        verdict="HEALTHY",
        reasons=(),
    )


def test_versions_follow_from_what_changed(
    registry: RAGModelRegistry, run_id: str, model_name: str
) -> None:
    def register(**metrics: float) -> str:
        return registry.register_embedding_model(run_id, metrics, model_name=model_name)

    assert register(mrr=0.393, queries=900) == "1.0.0"
    assert register(mrr=0.395, queries=900) == "1.0.1"
    assert register(mrr=0.534, queries=900) == "1.1.0"
    newest, *_ = registry.history(model_name)
    assert newest.change == "minor"
    assert newest.metrics == {"mrr": 0.534, "queries": 900}
    assert newest.space.dimension == 256
    assert newest.source.endswith("/model")


def test_models_of_every_kind_are_numbered_and_keep_to_themselves(
    registry: RAGModelRegistry, run_id: str, model_name: str
) -> None:
    """The run has an embedding space; what is made beside it has none."""
    for register, kind in (
        (registry.register_reranker, "reranker"),
        (registry.register_generator, "generator"),
    ):
        name = f"{model_name}-{kind}"
        assert register(run_id, {"accuracy": 0.8}, model_name=name) == "1.0.0"
        assert register(run_id, {"accuracy": 0.9, "queries": 900}, model_name=name) == "1.0.1"
        (newest, _) = registry.history(name)
        assert newest.kind == kind
        assert not newest.space.is_known


def test_a_version_is_found_by_both_of_its_numbers(
    registry: RAGModelRegistry, run_id: str, model_name: str
) -> None:
    for _ in range(2):
        registry.register_embedding_model(run_id, {"f1_score": 0.82}, model_name=model_name)

    second = registry.resolve(model_name, "1.0.1")

    assert second.mlflow_version == "2"
    assert registry.by_mlflow_version(model_name, 2) == second
    with pytest.raises(UnknownVersion, match=r"there are: 1\.0\.1, 1\.0\.0"):
        registry.resolve(model_name, "7.0.0")


def test_registrations_at_once_never_share_a_version(
    config: MlopsConfig, run_id: str, model_name: str
) -> None:
    def register(_: int) -> str:
        registry = RAGModelRegistry(config)
        return registry.register_embedding_model(run_id, {"mrr": 0.4}, model_name=model_name)

    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(register, range(6)))

    assert sorted(versions) == [f"1.0.{number}" for number in range(6)]


def test_only_a_release_makes_a_champion_and_a_rollback_brings_the_old_one_back(
    registry: RAGModelRegistry, config: MlopsConfig, run_id: str, model_name: str
) -> None:
    for _ in range(2):
        registry.register_embedding_model(run_id, {"mrr": 0.4}, model_name=model_name)
    with pytest.raises(NotReleased, match="progressing"):
        registry.promote(model_name, "1.0.0", release("1.0.0", "progressing"))
    registry.promote(model_name, "1.0.0", release("1.0.0", "settled"))
    registry.set_challenger(model_name, "1.0.1")
    staging = RAGModelRegistry(
        replace(config, model=replace(config.model, stage=RegistryStage.STAGING))
    )
    assert registry.resolve(model_name).version == "1.0.0"
    assert staging.resolve(model_name).version == "1.0.1"

    for _ in range(2):  # repeating it changes nothing
        registry.promote(model_name, "1.0.1", release("1.0.1", "baking"))

    assert registry.resolve(model_name).version == "1.0.1"
    assert registry.resolve(model_name, "previous").version == "1.0.0"
    with pytest.raises(UnknownVersion):
        staging.resolve(model_name)
    with pytest.raises(ProtectedVersion, match="previous"):
        registry.delete_version(model_name, "1.0.0")

    for _ in range(2):
        registry.roll_back(model_name, "1.0.1", "latency")

    assert registry.resolve(model_name).version == "1.0.0"
    assert registry.resolve(model_name, "1.0.1").rejected == "latency"
    registry.delete_version(model_name, "1.0.1")
    assert [one.version for one in registry.history(model_name)] == ["1.0.0"]


async def test_a_release_that_is_given_up_leaves_no_challenger_and_no_blame(
    registry: RAGModelRegistry, config: MlopsConfig, run_id: str, model_name: str
) -> None:
    deployment = CanaryDeployment(config)
    registry.register_embedding_model(run_id, {"mrr": 0.4}, model_name=model_name)
    registry.set_challenger(model_name, "1.0.0")
    with pytest.raises(NotReleased, match="progressing"):
        await deployment.follow(model_name, release("1.0.0", "progressing"))

    for _ in range(2):
        await deployment.follow(model_name, release("1.0.0", "aborted"))

    one = registry.resolve(model_name, "1.0.0")
    assert (one.aliases, one.rejected) == ((), "")
    await deployment.follow("a-model-that-nobody-registered", release("1.0.0", "aborted"))


def test_mlflows_own_clients_see_names_tags_and_aliases(
    registry: RAGModelRegistry, config: MlopsConfig, run_id: str, model_name: str
) -> None:
    registry.register_embedding_model(run_id, {"mrr": 0.4}, model_name=model_name)
    registry.promote(model_name, "1.0.0", release("1.0.0", "settled"))

    client = MlflowClient(config.mlflow.tracking_uri)
    seen = client.get_model_version_by_alias(model_name, "champion")

    assert seen.tags["version"] == "1.0.0"
    assert seen.run_id == run_id
    assert client.get_registered_model(model_name).tags["kind"] == "embedding"


def test_a_run_without_a_model_folder_is_registered_with_what_it_has(
    registry: RAGModelRegistry, config: MlopsConfig, model_name: str
) -> None:
    with RAGModelTracker(config.mlflow) as tracker:
        bare = tracker.start_training_run("bare")

    version = registry.register_embedding_model(bare, {"accuracy": 0.85}, model_name=model_name)

    assert version == "1.0.0"
    assert registry.resolve(model_name, "1.0.0").source


@pytest.mark.filterwarnings("ignore")  # MLflow's advice on how models are written
def test_a_model_that_was_logged_as_one_is_the_version_and_comes_back(
    registry: RAGModelRegistry, config: MlopsConfig, model_name: str, tmp_path: Path
) -> None:
    code = tmp_path / "echo.py"
    code.write_text(
        "import mlflow.models, mlflow.pyfunc\n"
        "class Echo(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input, params=None):\n"
        "        return model_input\n"
        "mlflow.models.set_model(Echo())\n",
        encoding="utf-8",
    )
    with RAGModelTracker(config.mlflow) as tracker:
        run_id = tracker.start_training_run("logs its model")
        mlflow.set_tracking_uri(config.mlflow.tracking_uri)
        try:
            with mlflow.start_run(run_id=run_id):
                for name in ("other", "model", "third"):
                    mlflow.pyfunc.log_model(name=name, python_model=code, pip_requirements=[])
        finally:
            mlflow.set_tracking_uri(None)

    version = registry.register_embedding_model(run_id, {"mrr": 0.5}, model_name=model_name)
    found = registry.download(model_name, version, tmp_path / "got")

    client = MlflowClient(config.mlflow.tracking_uri)
    (made,) = client.search_model_versions(f"name = '{model_name}'")
    outputs = client.get_run(run_id).outputs.model_outputs
    logged = {one.name: one for one in (client.get_logged_model(it.model_id) for it in outputs)}
    assert made.source == logged["model"].artifact_location
    assert (found / "MLmodel").exists()
    assert mlflow.pyfunc.load_model(str(found)).predict(["x"]) == ["x"]


def test_two_promotions_at_once_leave_one_champion_and_a_version_to_return_to(
    registry: RAGModelRegistry, config: MlopsConfig, run_id: str, model_name: str
) -> None:
    versions = [
        registry.register_embedding_model(run_id, {"mrr": mrr}, model_name=model_name)
        for mrr in (0.1, 0.2, 0.3)
    ]
    registry.promote(model_name, versions[0], release(versions[0], "settled"))

    def promote(number: int) -> None:
        version = versions[1 + number % 2]
        RAGModelRegistry(config).promote(model_name, version, release(version, "settled"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(promote, range(4)))

    aliases = {alias: one.version for one in registry.history(model_name) for alias in one.aliases}
    assert set(aliases) == {"champion", "previous"}
    assert aliases["champion"] in versions[1:]
    assert aliases["previous"] != aliases["champion"]


def break_off(registry: RAGModelRegistry, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """MLflow goes away when the registry makes this call."""

    def away(*_: object) -> None:
        raise requests.ConnectionError("gone")

    monkeypatch.setattr(registry._connection.client, call, away)


def test_a_promotion_that_broke_off_is_whole_once_it_is_repeated(
    registry: RAGModelRegistry, run_id: str, model_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        registry.register_embedding_model(run_id, {"mrr": 0.4}, model_name=model_name)
    registry.promote(model_name, "1.0.0", release("1.0.0", "settled"))
    registry.roll_back(model_name, "1.0.1", "an earlier release")
    registry.set_challenger(model_name, "1.0.1")

    with monkeypatch.context() as patched:
        break_off(registry, patched, "delete_registered_model_alias")
        with pytest.raises(TrackingUnavailable):
            registry.promote(model_name, "1.0.1", release("1.0.1", "baking"))
    registry.promote(model_name, "1.0.1", release("1.0.1", "baking"))

    found = registry.resolve(model_name, "1.0.1")
    assert found.aliases == ("champion",), "nobody releases it any more"
    assert found.rejected == "", "users have it"
    tags = registry._connection.client.get_model_version(model_name, "2").tags
    assert "promoted_at" in tags


def test_a_rollback_that_broke_off_is_whole_once_it_is_repeated(
    registry: RAGModelRegistry, run_id: str, model_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.0.0", "1.0.1"):
        registry.register_embedding_model(run_id, {"mrr": 0.4}, model_name=model_name)
        registry.promote(model_name, version, release(version, "settled"))

    with monkeypatch.context() as patched:
        break_off(registry, patched, "delete_registered_model_alias")
        with pytest.raises(TrackingUnavailable):
            registry.roll_back(model_name, "1.0.1", "latency")
    registry.roll_back(model_name, "1.0.1", "latency")

    assert registry.resolve(model_name, "1.0.0").aliases == ("champion",)
    assert registry.resolve(model_name, "1.0.1").aliases == ()


def test_a_stack_that_was_killed_before_it_had_a_champion_gets_one(
    registry: RAGModelRegistry, config: MlopsConfig, run_id: str, model_name: str, tmp_path: Path
) -> None:
    registry.register_embedding_model(run_id, {}, model_name=model_name, version="1.0.0")

    register_first_versions(config, model_name, {"1.0.0": tmp_path}, champion="1.0.0")

    assert registry.resolve(model_name, "champion").version == "1.0.0"


def test_a_tag_that_somebody_else_set_hides_no_version(
    registry: RAGModelRegistry, run_id: str, model_name: str
) -> None:
    registry.register_embedding_model(run_id, {"mrr": 0.4}, model_name=model_name)
    for name, value in (("dimension", "many"), ("metric.mrr", "good")):
        registry._connection.client.set_model_version_tag(model_name, "1", name, value)

    (found,) = registry.history(model_name)

    assert (found.version, found.dimension, found.metrics) == ("1.0.0", 0, {})
