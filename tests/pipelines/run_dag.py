"""`dag.test()` of one pipeline, run by Airflow's own Python: what became of each task, as JSON.

`run_dag.py DAG_ID CONF RUN_AFTER`. The last line of standard output is the answer.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime

from airflow.dag_processing.dagbag import DagBag


def main() -> None:
    dag_id, conf, run_after = sys.argv[1:]
    bag = DagBag(dag_folder=None)
    assert not bag.import_errors, bag.import_errors
    dag = bag.dags[dag_id]
    run = dag.test(
        logical_date=None, run_after=datetime.fromisoformat(run_after), run_conf=json.loads(conf)
    )
    tasks = {
        one.task_id: str(getattr(one.state, "value", one.state)) for one in run.get_task_instances()
    }
    sys.stdout.write(
        json.dumps({"state": str(getattr(run.state, "value", run.state)), "tasks": tasks}) + "\n"
    )


if __name__ == "__main__":
    main()
