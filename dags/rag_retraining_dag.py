"""Airflow: logged queries become a better version, and the version a release."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, Param, dag, task

from dags.project_step import run_step
from dags.release_wait import DECIDED, ENDED, WaitForRelease
from dags.run_values import retraining_request

SCHEDULE = os.environ.get("MLOPS_RETRAINING_SCHEDULE") or "@daily"  # noqa: TID251  read as the file is parsed
TEXT = ["null", "string"]

PARAMS = {
    "model": Param("rag_embedding_model", type="string", description="registered name"),
    "route": Param(None, type=TEXT, description="whose traffic, and where to release"),
    "since": Param(None, type=TEXT, description="ISO 8601; else lookback_days before until"),
    "until": Param(None, type=TEXT, description="ISO 8601; else the end of the data interval"),
    "as_of": Param(None, type=TEXT, description="scores that arrived by then; else until"),
    "lookback_days": Param(30, type="number", exclusiveMinimum=0),
    "evaluation": Param(None, type=TEXT, description="late score that counts, by name"),
    "labelling": Param("top_answer", enum=["top_answer", "reciprocal_rank"]),
    "minimum_score": Param(0.5, type="number", minimum=0, maximum=1),
    "min_samples": Param(None, type=["null", "integer"], description="else the setting"),
    "trainer": Param("linear_adapter", enum=["linear_adapter", "sentence_transformers"]),
    "seed": Param(7, type="integer"),
    "documents": Param(None, type=TEXT, description="file of the documents to search"),
    "policy": Param(None, type=["null", "object"], description="of the release"),
    "reason": Param("scheduled", type="string"),
}


@task
def plan(**context: Any) -> dict[str, Any]:
    """Name the run's partition and its window."""
    run = context["dag_run"]
    return retraining_request(
        run_id=run.run_id,
        interval_end=run.data_interval_end,
        run_after=run.run_after,
        params=context["params"],
    )


@task
def extract(request: dict[str, Any]) -> dict[str, Any]:
    """Bring the window's rows and the documents into the partition."""
    return run_step("retrain", "extract", request)


@task
def validate_and_preprocess(request: dict[str, Any]) -> dict[str, Any]:
    """Check the rows and make pairs of them; skips with too few samples and says how many."""
    return run_step("retrain", "validate", request)


@task
def train(request: dict[str, Any]) -> dict[str, Any]:
    """Train a model and build its index."""
    return run_step("retrain", "train", request)


@task
def evaluate(request: dict[str, Any]) -> dict[str, Any]:
    """Compare with the champion; skips what follows, and says why, unless it is better."""
    return run_step("retrain", "evaluate", request)


@task
def register(request: dict[str, Any]) -> dict[str, Any]:
    """Log, register and store the version."""
    return run_step("retrain", "register", request)


@task(retries=12, retry_delay=timedelta(minutes=5), retry_exponential_backoff=0)
def deploy_canary(request: dict[str, Any]) -> dict[str, Any]:
    """Load the version on free servers and start its release; a busy route is waited for."""
    return run_step("retrain", "deploy", request)


@task
def promote_or_roll_back(request: dict[str, Any]) -> dict[str, Any]:
    """Let the registry follow what the agent decided."""
    return run_step("retrain", "follow", request)


@task
def settle_or_roll_back(request: dict[str, Any]) -> dict[str, Any]:
    """The same once the bake is over."""
    return run_step("retrain", "follow", request)


@task(trigger_rule="all_done")
def report(request: dict[str, Any]) -> dict[str, Any]:
    """Tell how the run ended; fails where it did not come to an end."""
    return run_step("retrain", "report", request)


@dag(
    dag_id="rag_retraining_pipeline",
    schedule=CronDataIntervalTimetable(SCHEDULE, timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params=PARAMS,
    default_args={
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": 2.0,
        "execution_timeout": timedelta(hours=6),
    },
    tags=["rag", "training"],
    doc_md=__doc__,
)
def rag_retraining_pipeline() -> None:
    """Every task may be ended and run again: what was done is found in the run's partition."""

    request = plan()
    deployed = deploy_canary(request)
    release_id: Any = deployed["release_id"]
    monitor_canary = WaitForRelease(task_id="monitor_canary", release_id=release_id, phases=DECIDED)
    monitor_bake = WaitForRelease(task_id="monitor_bake", release_id=release_id, phases=ENDED)
    (
        extract(request)
        >> validate_and_preprocess(request)
        >> train(request)
        >> evaluate(request)
        >> register(request)
        >> deployed
        >> monitor_canary
        >> promote_or_roll_back(request)
        >> monitor_bake
        >> settle_or_roll_back(request)
        >> report(request)
    )


pipeline = rag_retraining_pipeline()

if __name__ == "__main__":
    pipeline.test()
