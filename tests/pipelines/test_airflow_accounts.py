"""Airflow's real API server with the users that the compose file names: who may do what."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml

from mlops.local.child import free_ports
from tests.pipelines.conftest import PYTHON, ROOT

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

USERS = ("admin", "operator", "viewer")
READY_TIMEOUT_S = 240.0
POLL_S = 0.5
DAG = "rag_retraining_pipeline"


def compose_environment() -> dict[str, str]:
    """What the compose file says of its accounts."""
    text = (ROOT / "docker-compose.mlops.yml").read_text(encoding="utf-8")
    given: dict[str, str] = yaml.safe_load(text)["x-airflow-environment"]
    return {name: value for name, value in given.items() if "SIMPLE_AUTH" in name}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("accounts")
    (port,) = free_ports(1)
    environment = compose_environment() | {
        "PATH": f"{PYTHON.parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__SECRET_KEY": "of-this-test",
        "AIRFLOW__API_AUTH__JWT_SECRET": "of-this-test" * 8,
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "PYTHONPATH": str(ROOT),
    }
    passwords = {f"AIRFLOW_{name.upper()}_PASSWORD": f"{name}-secret" for name in USERS}
    with (folder / "log").open("wb") as log:
        for command in (
            ["sh", str(ROOT / "deploy/airflow/init.sh")],
            ["airflow", "dags", "reserialize"],
        ):
            subprocess.run(
                command, env=environment | passwords, cwd=folder, check=True, stdout=log, stderr=log
            )
        server = subprocess.Popen(
            ["airflow", "api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    found = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(found, server, folder / "log")
        yield found
    finally:
        os.killpg(server.pid, 9)
        server.wait()


def wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while True:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline_s, log.read_text()
        try:
            if requests.get(f"{url}/api/v2/monitor/health", timeout=10).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(POLL_S)


def log_in(url: str, name: str, password: str) -> requests.Response:
    body = {"username": name, "password": password}
    return requests.post(f"{url}/auth/token", json=body, timeout=60)


def test_each_user_may_do_what_it_is_for(url: str) -> None:
    tokens = {}
    for name in USERS:
        assert log_in(url, name, "guessed").status_code == 401
        answer = log_in(url, name, f"{name}-secret")
        assert answer.status_code == 201, answer.text
        tokens[name] = answer.json()["access_token"]
    pause = {"is_paused": True}
    variable = {"key": "mine", "value": "1"}
    verbs = [
        ("GET", "dags", None, {"admin", "operator", "viewer"}),
        ("GET", f"dags/{DAG}", None, {"admin", "operator", "viewer"}),
        ("PATCH", f"dags/{DAG}", pause, {"admin", "operator"}),
        ("POST", "variables", variable, {"admin"}),
        ("GET", "connections", None, {"admin"}),
    ]
    for method, path, body, allowed in verbs:
        for name, token in [*tokens.items(), ("nobody", "")]:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = requests.request(
                method, f"{url}/api/v2/{path}", json=body, headers=headers, timeout=60
            )
            said = (name, method, path, answer.status_code, answer.text)
            if name in allowed:
                assert answer.status_code in {200, 201}, said
            else:
                assert answer.status_code == (403 if token else 401), said
