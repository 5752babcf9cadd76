"""What a new stack serves is registered and stored like any version that comes after it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mlops.artifact_store import MinIOArtifactStore
from mlops.config import MlopsConfig
from mlops.mlflow_tracker import RAGModelTracker
from mlops.model_registry import RAGModelRegistry, UnknownVersion
from mlops.registry.numbering import is_above
from mlops.serving.corpus import held_out_queries, load_corpus
from mlops.serving.model import ModelManifest, read_manifest


def register_first_versions(
    config: MlopsConfig, model: str, folders: Mapping[str, Path], champion: str
) -> None:
    """Store and register versions in their order, and make one of them champion if none is.

    So the first version of somebody else's continues their numbers, and a pool that has given one
    up can load it again. Only versions above all that are registered already are added.
    """
    registry = RAGModelRegistry(config)
    store = MinIOArtifactStore(config.minio)
    with RAGModelTracker(config.mlflow) as tracker:
        for version, folder in folders.items():
            if not is_above(version, registry.history(model)):
                continue
            store.upload_model(folder, model, version)
            run_id = _logged(tracker, model, read_manifest(folder), folder)
            metrics = _metrics(read_manifest(folder), folder.parent)
            registry.register_embedding_model(
                run_id, metrics, model_name=model, version=version, once=True
            )
    with suppress(UnknownVersion):  # others were registered here before
        registry.adopt_champion(model, champion)


def _logged(tracker: RAGModelTracker, model: str, manifest: ModelManifest, folder: Path) -> str:
    """The run that a version is of; found again where it was made before."""
    run_id = tracker.start_training_run(
        f"{model} {manifest.version}", key=f"first-{model}-{manifest.version}"
    )
    trained = "" if manifest.adapter is None else f"+{manifest.version}"
    tracker.log_parameters(
        run_id,
        {
            "model_type": "embedding",
            "embedding_model": manifest.embedding_model + trained,
            "dimension": manifest.dimension,
            "index": manifest.corpus_digest,
        },
    )
    tracker.log_metrics(run_id, _metrics(manifest, folder.parent))
    tracker.log_artifact(run_id, folder, "model")
    tracker.end_run(run_id)
    return run_id


def _metrics(manifest: ModelManifest, corpus_cache: Path) -> dict[str, float]:
    """As the registry compares them: with the number of queries, chance has a measure."""
    measured = {name.removeprefix("held_out_"): value for name, value in manifest.metrics.items()}
    return {**measured, "queries": float(len(held_out_queries(load_corpus(corpus_cache))))}
