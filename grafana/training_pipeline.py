"""Training Pipeline: DAG runs as Airflow knows them, runs and versions as MLflow does."""

from grafana.panels import AIRFLOW, MLFLOW, Page, Panel, postgres

_ENDED = "$__timeFilter(end_date) AND state IN ('success', 'failed')"
_RUNS = "$__unixEpochFilter(r.start_time / 1000) AND r.lifecycle_stage = 'active'"

PAGE = Page(
    uid="training-pipeline",
    title="Training Pipeline",
    description="DAG runs as Airflow knows them, training runs and versions as MLflow does.",
    since="now-7d",
    panels=(
        Panel(
            title="DAG runs that succeeded",
            description="Share of the DAG runs that ended in the chosen time.",
            unit="percentunit",
            kind="stat",
            width=6,
            most=1,
            thresholds=((None, "red"), (0.9, "yellow"), (0.99, "green")),
            queries=(
                postgres(
                    AIRFLOW,
                    f"""
SELECT avg((state = 'success')::int) AS succeeded FROM dag_run WHERE {_ENDED}
""",
                    is_series=False,
                ),
            ),
        ),
        Panel(
            title="DAG runs that failed",
            description="In the chosen time.",
            unit="short",
            kind="stat",
            width=6,
            thresholds=((None, "green"), (1, "red")),
            queries=(
                postgres(
                    AIRFLOW,
                    "SELECT count(*) AS failed FROM dag_run WHERE $__timeFilter(end_date) AND state = 'failed'",
                    is_series=False,
                ),
            ),
        ),
        Panel(
            title="Training runs",
            description="Runs that MLflow was told of in the chosen time.",
            unit="short",
            kind="stat",
            width=6,
            queries=(
                postgres(
                    MLFLOW, f"SELECT count(*) AS runs FROM runs r WHERE {_RUNS}", is_series=False
                ),
            ),
        ),
        Panel(
            title="Registered versions",
            description="Of all models.",
            unit="short",
            kind="stat",
            width=6,
            queries=(
                postgres(
                    MLFLOW, "SELECT count(*) AS versions FROM model_versions", is_series=False
                ),
            ),
        ),
        Panel(
            title="DAG runs that ended",
            description="By DAG and state, in an hour.",
            unit="short",
            style="bars",
            stacked=True,
            width=12,
            queries=(
                postgres(
                    AIRFLOW,
                    f"""
SELECT $__timeGroupAlias(end_date, '1h'), dag_id || ' ' || state AS metric, count(*) AS value
FROM dag_run WHERE {_ENDED} GROUP BY 1, 2 ORDER BY 1
""",
                ),
            ),
        ),
        Panel(
            title="Duration of DAG runs",
            description="From start to end, by DAG.",
            unit="s",
            style="points",
            width=12,
            queries=(
                postgres(
                    AIRFLOW,
                    f"""
SELECT end_date AS time, dag_id AS metric, extract(epoch FROM end_date - start_date)::float AS value
FROM dag_run WHERE {_ENDED} ORDER BY 1
""",
                ),
            ),
        ),
        Panel(
            title="Duration of tasks",
            description="Mean of each task that ended, in an hour: where a run's time goes.",
            unit="s",
            style="points",
            width=12,
            queries=(
                postgres(
                    AIRFLOW,
                    """
SELECT $__timeGroupAlias(end_date, '1h'), dag_id || '.' || task_id AS metric, avg(duration) AS value
FROM task_instance WHERE $__timeFilter(end_date) AND duration IS NOT NULL
GROUP BY 1, 2 ORDER BY 1
""",
                ),
            ),
        ),
        Panel(
            title="Tasks by state",
            description="Task instances in the chosen time. `up_for_retry` and `failed` want a look.",
            unit="short",
            kind="table",
            width=12,
            widths={"dag_id": 240, "state": 100, "times": 80},
            queries=(
                postgres(
                    AIRFLOW,
                    """
SELECT dag_id, task_id, state, count(*) AS times, max(end_date) AS last
FROM task_instance WHERE $__timeFilter(start_date)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
""",
                    is_series=False,
                ),
            ),
        ),
        Panel(
            title="Quality of trained models",
            description="Accuracy, F1, precision and recall (and what else a run calls so), by run.",
            unit="none",
            style="points",
            width=12,
            queries=(
                postgres(
                    MLFLOW,
                    f"""
SELECT to_timestamp(m.timestamp / 1000.0) AS time, m.key AS metric, m.value AS value
FROM latest_metrics m JOIN runs r USING (run_uuid)
WHERE {_RUNS} AND m.key ~ 'accuracy|f1|precision|recall|mrr|ndcg' ORDER BY 1
""",
                ),
            ),
        ),
        Panel(
            title="Duration of training runs",
            description="From start to end, by experiment; runs that have not ended are left out.",
            unit="s",
            style="points",
            width=12,
            queries=(
                postgres(
                    MLFLOW,
                    f"""
SELECT to_timestamp(r.end_time / 1000.0) AS time, e.name AS metric, (r.end_time - r.start_time) / 1000.0 AS value
FROM runs r JOIN experiments e USING (experiment_id)
WHERE {_RUNS} AND r.end_time IS NOT NULL ORDER BY 1
""",
                ),
            ),
        ),
        Panel(
            title="Training runs by outcome",
            description="As MLflow has them, newest first.",
            unit="short",
            kind="table",
            width=12,
            queries=(
                postgres(
                    MLFLOW,
                    f"""
SELECT to_timestamp(r.start_time / 1000.0) AS started, e.name AS experiment, r.name AS run, r.status
FROM runs r JOIN experiments e USING (experiment_id)
WHERE {_RUNS} ORDER BY 1 DESC LIMIT 100
""",
                    is_series=False,
                ),
            ),
        ),
        Panel(
            title="Versions and aliases",
            description="`champion` serves, `challenger` is being released, `previous` is kept for a rollback.",
            unit="short",
            kind="table",
            width=12,
            widths={"model": 220, "version": 80},
            queries=(
                postgres(
                    MLFLOW,
                    """
SELECT v.name AS model, v.version, string_agg(a.alias, ', ' ORDER BY a.alias) AS aliases,
  to_timestamp(v.creation_time / 1000.0) AS registered, v.status
FROM model_versions v
LEFT JOIN registered_model_aliases a ON a.name = v.name AND a.version = v.version
GROUP BY v.name, v.version, v.creation_time, v.status ORDER BY v.creation_time DESC LIMIT 100
""",
                    is_series=False,
                ),
            ),
        ),
    ),
)
