"""Every call in the code of the original description can be made as it stands there: the same
imports, classes, methods and arguments, by position and by name. `docs/library.md` has the same
code, which a test runs against real servers."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from typing import Any, Final, get_type_hints

import pytest

from mlops.feature_store import ClickHouseFeatureStore

CODE: Final = """
from mlops.mlflow_tracker import RAGModelTracker
from mlops.model_registry import RAGModelRegistry
from mlops.deployment import CanaryDeployment, DeploymentConfig
from mlops.feature_store import ClickHouseFeatureStore
from mlops.artifact_store import MinIOArtifactStore
from mlops.deployment import RollbackManager

tracker = RAGModelTracker()
registry = RAGModelRegistry()
run_id = tracker.start_training_run("embedding_model_v1")
tracker.log_parameters(run_id, {"model_type": "embedding", "batch_size": 32})
tracker.log_metrics(run_id, {"accuracy": 0.85, "f1_score": 0.82})
version = registry.register_embedding_model(run_id, {"accuracy": 0.85, "f1_score": 0.82})

deployment = CanaryDeployment()
config = DeploymentConfig(
    model_name="rag_embedding_model",
    model_version="1.2.3",
    deployment_type="canary",
    traffic_percentage=10,
    canary_duration=3600,
)
result = deployment.deploy_canary(config)

feature_store = ClickHouseFeatureStore()
feature_store.store_query_features({"query_id": "q123"})
training_data = feature_store.get_training_data(limit=10000)
performance = feature_store.get_model_performance_history("rag_embedding_model", days=30)

artifact_store = MinIOArtifactStore()
model_uri = artifact_store.upload_model(
    model_path="/path/to/model",
    model_name="rag_embedding_model",
    model_version="1.2.3",
    metadata={"accuracy": 0.85, "training_date": "2024-01-15"},
)
success = artifact_store.download_model(
    model_name="rag_embedding_model",
    model_version="1.2.3",
    download_path="/tmp/downloaded_model",
)
models = artifact_store.list_models("rag_embedding_model")

rollback_manager = RollbackManager()
result = rollback_manager.emergency_rollback(
    model_name="rag_embedding_model", reason="High error rate detected"
)
"""

TREE: Final = ast.parse(CODE)
AWAITED: Final = {"deploy_canary", "emergency_rollback"}
RESULTS: Final = {
    "start_training_run": str,
    "register_embedding_model": str,
    "upload_model": str,
    "download_model": bool,
}


def classes() -> dict[str, Any]:
    """What the code imports, by name."""
    return {
        name.name: getattr(import_module(node.module or ""), name.name)
        for node in TREE.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }


def objects() -> dict[str, Any]:
    """The class of what each name of the code holds."""
    return {
        target.id: classes()[node.value.func.id]
        for node in TREE.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        if isinstance(node.value.func, ast.Name)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


CALLS: Final = [node for node in ast.walk(TREE) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: ast.unparse(call.func))
def test_a_call_takes_the_arguments_it_is_given(call: ast.Call) -> None:
    given = [object() for _ in call.args], {one.arg or "": object() for one in call.keywords}
    if isinstance(call.func, ast.Name):
        inspect.signature(classes()[call.func.id]).bind(*given[0], **given[1])
        return
    assert isinstance(call.func, ast.Attribute)
    assert isinstance(call.func.value, ast.Name)
    method = getattr(objects()[call.func.value.id], call.func.attr)
    inspect.signature(method).bind(object(), *given[0], **given[1])
    assert inspect.iscoroutinefunction(method) is (call.func.attr in AWAITED)
    if call.func.attr in RESULTS:
        assert get_type_hints(method)["return"] is RESULTS[call.func.attr]


def test_training_data_has_a_length() -> None:
    found = get_type_hints(ClickHouseFeatureStore.get_training_data)["return"]
    assert hasattr(found, "__len__")
