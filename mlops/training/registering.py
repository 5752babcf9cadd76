"""From an evaluated partition to a registered version, repeatably."""

from __future__ import annotations

import shutil
from typing import Final

from mlops.artifact_store import MinIOArtifactStore
from mlops.mlflow_tracker import RAGModelTracker
from mlops.model_registry import EmbeddingSpace, RAGModelRegistry
from mlops.serving.model import ModelManifest, write_manifest
from mlops.training.evaluating import FOLDER as EVALUATION
from mlops.training.outcomes import Evaluated, Extracted, Registered, Step, Trained, Validated
from mlops.training.partition import Partition
from mlops.training.plan import Plan
from mlops.training.pyfunc_model import save_pyfunc
from mlops.training.versions import Description, read_description

PYFUNC: Final = "pyfunc"
RELEASE: Final = "release"
"""Folder of what model servers fetch."""


def log_and_register(
    partition: Partition,
    evaluated: Evaluated,
    tracker: RAGModelTracker,
    registry: RAGModelRegistry,
    artifacts: MinIOArtifactStore,
) -> Registered:
    """Every part may be repeated: the run is found by the partition, the version by the run."""
    plan = partition.plan()
    description = read_description(partition.path / "model")
    run_id = _logged(partition, plan, evaluated, tracker)
    space = EmbeddingSpace(
        embedding_model=description.encoder,
        dimension=description.dimension,
        index=description.index_digest,
    )
    version = registry.register_embedding_model(
        run_id, evaluated.metrics, model_name=plan.model, space=space, once=True
    )
    release = partition.path / RELEASE
    shutil.rmtree(release, ignore_errors=True)
    shutil.copytree(partition.path / "model", release)
    manifest = ModelManifest(
        name=plan.model,
        version=version,
        embedding_model=description.encoder,
        dimension=description.dimension,
        adapter=description.adapter,
        corpus_digest=description.documents_digest,
        metrics={f"held_out_{name}": round(v, 4) for name, v in evaluated.metrics.items()},
    )
    write_manifest(release, manifest)
    uri = artifacts.upload_model(
        release, plan.model, version, {"run_id": run_id, "partition": partition.name}
    )
    return Registered(model=plan.model, version=version, run_id=run_id, uri=uri)


def _logged(
    partition: Partition, plan: Plan, evaluated: Evaluated, tracker: RAGModelTracker
) -> str:
    """The run with everything in it, ended."""
    window = plan.window
    facts = {
        "partition": partition.name,
        "data_since": window.since.isoformat(),
        "data_until": window.until.isoformat(),
        "data_as_of": window.as_of.isoformat(),
        "seed": str(plan.seed),
        "plan": plan.digest,
    }
    run_id = tracker.start_training_run(
        f"{plan.model} {partition.name}",
        tags={f"rag_mlops.{name}": value for name, value in facts.items()},
        data_window=(window.since, window.until),
        key=f"{partition.name}-{plan.digest}",
    )
    description = read_description(partition.path / "model")
    tracker.log_parameters(run_id, _parameters(plan, description))
    _log_figures(partition, run_id, evaluated, tracker)
    tracker.log_artifact(run_id, partition.path / EVALUATION, EVALUATION)
    pyfunc = partition.path / PYFUNC
    save_pyfunc(partition.path / "model", pyfunc, description, facts)
    tracker.log_artifact(run_id, pyfunc, "model")
    tracker.end_run(run_id)
    return run_id


def _parameters(plan: Plan, description: Description) -> dict[str, object]:
    return {
        "model_type": "embedding",
        "trainer": description.trainer,
        "embedding_model": description.encoder,
        "dimension": description.dimension,
        "index": description.index_digest,
        "documents": description.documents_digest,
        "seed": description.seed,
        "champion": plan.champion or "none",
        **description.settings,
    }


def _log_figures(
    partition: Partition, run_id: str, evaluated: Evaluated, tracker: RAGModelTracker
) -> None:
    """Metrics, and what the run was trained and measured on."""
    plan = partition.plan()
    extracted, validated, trained = (
        partition.required(step) for step in (Step.EXTRACT, Step.VALIDATE, Step.TRAIN)
    )
    assert isinstance(extracted, Extracted), "the partition went on after it"
    assert isinstance(validated, Validated), "the partition went on after it"
    assert isinstance(trained, Trained), "the partition went on after it"
    tracker.log_metrics(run_id, _metrics(evaluated, validated, trained))
    window = plan.window
    for context, rows in (
        ("training", validated.training_pairs),
        ("validation", validated.validation_pairs),
        ("evaluation", validated.held_out_pairs),
    ):
        tracker.log_dataset(
            run_id,
            name=f"{plan.model} {partition.name} {context}",
            source=f"clickhouse query_features {window.since:%F %T}..{window.until:%F %T}",
            digest=extracted.rows_digest,
            rows=rows,
            context=context,
        )


def _metrics(evaluated: Evaluated, validated: Validated, trained: Trained) -> dict[str, float]:
    return {
        **evaluated.metrics,
        "mrr_gain": evaluated.gain.value,
        "mrr_gain_low": evaluated.gain.low,
        "mrr_gain_high": evaluated.gain.high,
        "validation_mrr": trained.validation_mrr,
        "frozen_validation_mrr": trained.frozen_validation_mrr,
        "training_pairs": float(validated.training_pairs),
        "training_seconds": trained.seconds,
        "latency_p50_ms": evaluated.latency_p50_ms,
        "latency_p95_ms": evaluated.latency_p95_ms,
        "model_bytes": float(evaluated.model_bytes),
    }
