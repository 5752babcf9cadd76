"""Run both pipelines for real: a whole stack with traffic, Airflow with two workers, one run each.

`python scripts/pipelines.py [--keep]` prints what each step did, and ends everything it started.
Exit code 0 only if both runs came to their end and the better version was promoted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cli.demo.story import POLICY, ROUTE  # noqa: E402
from cli.demo.traffic import SCORE_NAME, Traffic  # noqa: E402
from mlops.config import MlopsConfig, read_config  # noqa: E402
from mlops.local.airflow import Airflow  # noqa: E402
from mlops.local.first_versions import register_first_versions  # noqa: E402
from mlops.local.stack import ANY_PORTS, Stack  # noqa: E402
from mlops.serving.corpus import load_corpus  # noqa: E402
from mlops.training.linear_adapter import BASE_VERSION, prepare_demo_models  # noqa: E402

DIRECTORY = ROOT / "var" / "pipelines"
MODEL = "rag_embedding_model"
RATE_PER_S = 60.0
SAMPLES = 3_000
"""Queries before the retraining: about half of them have their document among the answers."""
RUN_TIMEOUT_S = 2_400.0
WIDTH = 150
POLICY_OF_RUN = POLICY | {
    "checks": {name: check for name, check in POLICY["checks"].items() if name != "latency"}
}
"""The demo's, without latency: Airflow and all servers share this machine."""


def start_stack(directory: Path, models: dict[str, Path]) -> Stack:
    """Everything that `rag-mlops up` starts, with the base version registered as champion."""
    stack = Stack(directory=directory, ports=ANY_PORTS, environ=os.environ)
    try:
        stack.begin_s3()()
        mlflow_ready = stack.begin_mlflow()
        stack.start_clickhouse()
        stable = stack.start_model("model-a", models[BASE_VERSION], 0)
        stack.start_model("model-b", models[BASE_VERSION], 0)
        route = {
            "name": ROUTE,
            "model": MODEL,
            "match": {"prefix": "/"},
            "stable": {"version": BASE_VERSION, "endpoints": [stable]},
            "sticky": {"header": "x-user-id"},
        }
        stack.start_gateway([route])
        stack.start_recorder()
        stack.start_agent()
        mlflow_ready()
    except BaseException:
        stack.stop()
        raise
    return stack


def register_base(config: MlopsConfig, folder: Path) -> None:
    """The version that is stable already, as the champion that a new one must beat."""
    register_first_versions(config, MODEL, {BASE_VERSION: folder}, champion=BASE_VERSION)


@contextmanager
def traffic_on(stack: Stack, models: Path) -> Iterator[Traffic]:
    """Real queries, with late scores, from another thread until the block ends."""
    corpus = load_corpus(models)
    traffic = Traffic(
        gateway_url=stack.addresses["gateway"],
        agent_url=stack.addresses["agent"],
        agent_token=stack.secrets["AGENT_OPERATOR_TOKEN"],
        queries=[(one.summary, one.id) for one in corpus.documents],
        rate_per_s=RATE_PER_S,
        seed=7,
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(traffic.run(),))
    thread.start()
    try:
        yield traffic
    finally:
        loop.call_soon_threadsafe(traffic.stop)
        thread.join()
        loop.close()


def wait_for(traffic: Traffic, answers: int, timeout_s: float = 1_200.0) -> None:
    """Until so many queries were answered."""
    deadline_s = time.monotonic() + timeout_s
    while len(traffic.counts.answered) < answers:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{len(traffic.counts.answered)} of {answers} were answered")
        time.sleep(0.2)


def retraining_conf(until: datetime) -> dict[str, object]:
    """Learn from the traffic up to now; its scores are reciprocal ranks."""
    return {
        "until": until.isoformat(),
        "since": (until - timedelta(hours=2)).isoformat(),
        "as_of": until.isoformat(),
        "route": ROUTE,
        "evaluation": SCORE_NAME,
        "labelling": "reciprocal_rank",
        "policy": POLICY_OF_RUN,
        "reason": "by hand",
    }


def show(console: Console, airflow: Airflow, dag: str, run_id: str) -> str:
    """The table of one run; its state."""
    state = airflow.state(dag, run_id)
    table = Table("task", "state", "tries", "s", "what it did", title=f"{dag} · {run_id}: {state}")
    for task in airflow.tasks(dag, run_id):
        seconds = f"{task['duration']:.1f}" if task["duration"] else ""
        table.add_row(
            task["task_id"], str(task["state"]), str(task["try_number"]), seconds, task["said"]
        )
    console.print(table)
    return state


def airflow_on(stack: Stack, directory: Path) -> Airflow:
    """Airflow whose tasks find the stack; nothing is retrained by schedule meanwhile."""
    environment = stack.environment() | {
        "MLOPS_RETRAINING_DATA_PATH": str(directory / "partitions"),
        "MLOPS_RETRAINING_SCHEDULE": "@yearly",
    }
    return Airflow(
        home=directory / "airflow",
        binary=ROOT / ".venv-airflow" / "bin",
        project=ROOT,
        environment=environment,
    )


def main() -> int:
    """The whole story; the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/pipelines.py", allow_abbrev=False)
    parser.add_argument("--keep", action="store_true", help="leave data and logs in var/pipelines")
    keep = parser.parse_args().keep
    console = Console(width=WIDTH)
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(parents=True)
    models = prepare_demo_models(ROOT / "var" / "models")
    stack = start_stack(DIRECTORY / "stack", models)
    airflow = airflow_on(stack, DIRECTORY)
    try:
        register_base(read_config(stack.environment(), DIRECTORY), models[BASE_VERSION])
        with traffic_on(stack, ROOT / "var" / "models") as traffic:
            airflow.start()
            wait_for(traffic, SAMPLES)
            good = run_both(console, airflow)
    finally:
        airflow.stop()
        stack.stop()
    if not keep and good:
        shutil.rmtree(DIRECTORY)
    return 0 if good else 1


def run_both(console: Console, airflow: Airflow) -> bool:
    """Look at the hour, then retrain; whether both ended well."""
    now = datetime.now(UTC)
    monitoring, retraining = "model_monitoring_pipeline", "rag_retraining_pipeline"
    airflow.run(monitoring, "look", {"hour": now.isoformat()})
    airflow.run(retraining, "retrain", retraining_conf(now))
    airflow.wait(monitoring, "look", RUN_TIMEOUT_S)
    looked = show(console, airflow, monitoring, "look")
    airflow.wait(retraining, "retrain", RUN_TIMEOUT_S)
    trained = show(console, airflow, retraining, "retrain")
    return looked == trained == "success" and any(
        "promoted" in task["said"] or "settled" in task["said"]
        for task in airflow.tasks(retraining, "retrain")
        if task["task_id"] == "report"
    )


if __name__ == "__main__":
    sys.exit(main())
