"""A whole stack with traffic, Airflow's own Python beside it, and somebody who takes notices."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from cli.demo.traffic import Traffic
from mlops.config import MlopsConfig, read_config
from mlops.local.airflow import Airflow
from mlops.local.stack import Stack
from mlops.training.linear_adapter import BASE_VERSION
from scripts.pipelines import register_base, start_stack, traffic_on, wait_for
from tests.answering import answering

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-airflow" / "bin" / "python"
HERE = Path(__file__).parent
RUN_TIMEOUT_S = 1_800.0
"""On a machine of one's own one run takes half a minute; on a busy one, many."""
RETRAINING_DAG, MONITORING_DAG = "rag_retraining_pipeline", "model_monitoring_pipeline"


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook, and the notices that it took."""

    url: str
    taken: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture(scope="session")
def hook() -> Iterator[Hook]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        found.taken.append(json.loads(body))
        request.send_response(204)
        request.end_headers()

    with answering(answer) as address:
        found = Hook(f"http://{address}/hook")
        yield found


@dataclass(frozen=True, slots=True)
class Pipelines:
    """Both pipelines against one stack."""

    stack: Stack
    folder: Path
    hook: Hook

    @property
    def environment(self) -> dict[str, str]:
        return self.stack.environment() | {
            "MLOPS_RETRAINING_DATA_PATH": str(self.partitions),
            "MLOPS_NOTICE_URL": self.hook.url,
        }

    @property
    def config(self) -> MlopsConfig:
        return read_config(self.environment, self.folder)

    @property
    def partitions(self) -> Path:
        return self.folder / "partitions"

    def airflow(self, script: str, *arguments: str, **settings: str) -> Any:
        """The last line that a script says in Airflow's Python, with other settings."""
        done = subprocess.run(
            [str(PYTHON), str(HERE / script), *arguments],
            env=self.airflow_environment | settings,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    @property
    def airflow_environment(self) -> dict[str, str]:
        return self.environment | {
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "PYTHONPATH": str(ROOT),
        }

    def test(self, dag_id: str, conf: Mapping[str, Any], **settings: str) -> dict[str, Any]:
        """`dag.test()` of one run."""
        now = datetime.now(UTC).isoformat()
        found: dict[str, Any] = self.airflow(
            "run_dag.py", dag_id, json.dumps(conf), now, **settings
        )
        return found

    def step(self, pipeline: str, step: str, request: Mapping[str, Any]) -> tuple[int, Any]:
        """One step to its end: its exit code and what it said."""
        process = self.begin_step(pipeline, step, request)
        out, _ = process.communicate(timeout=RUN_TIMEOUT_S)
        return process.returncode, json.loads(out)

    def begin_step(
        self, pipeline: str, step: str, request: Mapping[str, Any]
    ) -> subprocess.Popen[str]:
        """One step, under way."""
        log = (self.folder / f"{pipeline}-{step}.log").open("a")
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore::SyntaxWarning", "-m", "dags.steps", pipeline, step],
            env=self.environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        log.close()
        assert process.stdin is not None
        process.stdin.write(json.dumps(request))
        process.stdin.close()
        process.stdin = None
        return process


@contextmanager
def pipelines_in(folder: Path, versions: dict[str, Path], hook: Hook) -> Iterator[Pipelines]:
    """A stack of its own, with the base version as the champion."""
    (folder / "stack").mkdir()
    stack = start_stack(folder / "stack", versions)
    try:
        found = Pipelines(stack, folder, hook)
        register_base(found.config, versions[BASE_VERSION])
        yield found
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def pipelines(
    tmp_path_factory: pytest.TempPathFactory, versions: dict[str, Path], hook: Hook
) -> Iterator[Pipelines]:
    """With the database that `dag.test()` needs."""
    with pipelines_in(tmp_path_factory.mktemp("pipelines"), versions, hook) as found:
        subprocess.run(
            [str(PYTHON.with_name("airflow")), "db", "migrate"],
            env=found.airflow_environment,
            capture_output=True,
            timeout=RUN_TIMEOUT_S,
            check=True,
        )
        yield found


@pytest.fixture(scope="session")
def traffic(pipelines: Pipelines, versions: dict[str, Path]) -> Iterator[Traffic]:
    """Enough answered and judged queries to train on, and more all the time."""
    with traffic_on(pipelines.stack, versions["1.0.0"].parent) as sending:
        wait_for(sending, 3_000)
        yield sending


@pytest.fixture(scope="session")
def airflow(pipelines: Pipelines) -> Iterator[Airflow]:
    """All of it, running, with one worker for everything; nothing is retrained by schedule."""
    environment = pipelines.environment | {"MLOPS_RETRAINING_SCHEDULE": "@yearly"}
    home = pipelines.folder / "running-airflow"
    found = Airflow(home, PYTHON.parent, ROOT, environment, workers=1)
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture
def both_dags(airflow: Airflow) -> Iterator[Airflow]:
    """The same, while runs of both DAGs are scheduled."""
    for dag in (RETRAINING_DAG, MONITORING_DAG):
        airflow.unpause(dag)
    yield airflow
    for dag in (RETRAINING_DAG, MONITORING_DAG):
        airflow.insist("PATCH", f"dags/{dag}", {"is_paused": True})


def task_states(airflow: Airflow, dag: str, run_id: str) -> dict[str, str | None]:
    """By task; empty where there is no such run."""
    if not airflow.state(dag, run_id):
        return {}
    return {one["task_id"]: one["state"] for one in airflow.tasks(dag, run_id)}
