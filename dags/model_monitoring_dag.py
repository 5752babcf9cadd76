"""Airflow: look at each hour of the log, tell what is wrong, and ask for a retraining."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import CronDataIntervalTimetable, Param, dag, task

from dags.project_step import run_step
from dags.run_values import monitoring_request

PARAMS = {
    "hour": Param(None, type=["null", "string"], description="ISO 8601; else the data interval"),
    "baseline_hours": Param(168, type="integer", minimum=2, maximum=720),
    "retraining_window_hours": Param(24, type="integer", minimum=1, maximum=720),
    "retraining": Param({}, type="object", description="parameters of the run it asks for"),
}
DECISION = "ti.xcom_pull(task_ids='decide_retraining')"


@task
def plan(**context: Any) -> dict[str, Any]:
    """Name the hour."""
    run = context["dag_run"]
    return monitoring_request(
        run_type=str(getattr(run.run_type, "value", run.run_type)),
        interval_end=run.data_interval_end,
        run_after=run.run_after,
        params=context["params"],
    )


@task
def collect(request: dict[str, Any]) -> dict[str, Any]:
    """The hour's figures, and those of the hours before it."""
    return run_step("monitor", "collect", request)


@task
def detect_anomalies(request: dict[str, Any]) -> dict[str, Any]:
    """Errors, latency, scores and traffic against the hours before."""
    return run_step("monitor", "anomalies", request)


@task
def detect_data_drift(request: dict[str, Any]) -> dict[str, Any]:
    """The hour's queries against those of the hours before."""
    return run_step("monitor", "drift", request)


@task
def check_data_quality(request: dict[str, Any]) -> dict[str, Any]:
    """Is the log whole, and do its rows have their features?"""
    return run_step("monitor", "quality", request)


@task
def generate_alerts(request: dict[str, Any]) -> dict[str, Any]:
    """All findings of the hour in one list, the worst first."""
    return run_step("monitor", "alerts", request)


@task
def send_alerts(request: dict[str, Any]) -> dict[str, Any]:
    """The findings to the webhook, once; skips where there is nothing or nobody to tell."""
    return run_step("monitor", "send", request)


@task
def refresh_tables(request: dict[str, Any]) -> dict[str, Any]:
    """Keep the hour in the history of performance that dashboards read."""
    return run_step("monitor", "refresh", request)


@task
def decide_retraining(request: dict[str, Any]) -> dict[str, Any]:
    """Skips, and says why, unless drift or decay is a reason to train again."""
    return run_step("monitor", "decide", request)


@dag(
    dag_id="model_monitoring_pipeline",
    schedule=CronDataIntervalTimetable("@hourly", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    params=PARAMS,
    render_template_as_native_obj=True,
    default_args={
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "execution_timeout": timedelta(minutes=20),
    },
    tags=["rag", "monitoring"],
    doc_md=__doc__,
)
def model_monitoring_pipeline() -> None:
    """One run is one hour; a back-fill of old hours tells nobody and opens no retraining."""

    request = plan()
    collected = collect(request)
    alerts = generate_alerts(request)
    decided = decide_retraining(request)
    trigger_retraining = TriggerDagRunOperator(
        task_id="trigger_retraining",
        trigger_dag_id="rag_retraining_pipeline",
        trigger_run_id="{{ " + DECISION + "['run_id'] }}",
        conf="{{ " + DECISION + "['conf'] }}",  # type: ignore[arg-type,unused-ignore]
        skip_when_already_exists=True,
    )
    looks = [detect_anomalies(request), detect_data_drift(request), check_data_quality(request)]
    collected >> looks >> alerts >> [send_alerts(request), refresh_tables(request), decided]
    decided >> trigger_retraining


pipeline = model_monitoring_pipeline()

if __name__ == "__main__":
    pipeline.test()
