"""What Airflow reads out of the DAG files, as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from airflow.dag_processing.dagbag import DagBag

from dags.release_wait import ReleaseTrigger


def waits_s(task: Any) -> list[float]:
    """At the least, before each retry."""
    factor = float(task.retry_exponential_backoff) or 1.0
    return [task.retry_delay.total_seconds() * factor**number for number in range(task.retries)]


def main() -> None:
    bag = DagBag(dag_folder=None)
    classpath, arguments = ReleaseTrigger("rel-1", ["settled"]).serialize()
    dags = {
        dag_id: {
            "schedule": dag.timetable.expression,
            "catchup": dag.catchup,
            "tasks": {one.task_id: sorted(one.downstream_task_ids) for one in dag.tasks},
            "retries": {one.task_id: one.retries for one in dag.tasks},
            "waits_s": {one.task_id: waits_s(one) for one in dag.tasks},
            "rules": {one.task_id: one.trigger_rule.value for one in dag.tasks},
        }
        for dag_id, dag in bag.dags.items()
    }
    found = {"errors": bag.import_errors, "dags": dags, "trigger": [classpath, arguments]}
    sys.stdout.write(json.dumps(found, default=str) + "\n")


if __name__ == "__main__":
    main()
