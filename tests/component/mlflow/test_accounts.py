"""MLflow's real server with the accounts that the compose file makes: who may do what."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import requests

from mlops.config import MlflowSettings, MlopsConfig, read_config
from mlops.mlflow_tracker import RAGModelTracker
from mlops.model_registry import RAGModelRegistry
from mlops.tracking.errors import TrackingRefused

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy" / "mlflow"
READY_TIMEOUT_S = 180.0
POLL_S = 0.2
PASSWORDS = {name: f"{name}-long-secret" for name in ("admin", "training", "serving")}
MODEL = "rag_embedding_model"


pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True, slots=True)
class Server:
    url: str

    def ask(self, who: str | None, method: str, path: str, body: object = None) -> int:
        """The status of the answer."""
        credentials = (who, PASSWORDS.get(who, "guessed")) if who else None
        answer = requests.request(
            method, f"{self.url}/api/2.0/mlflow/{path}", json=body, auth=credentials, timeout=60
        )
        return answer.status_code


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("accounts")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONWARNINGS": "ignore",
        "HOME": str(folder),
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder / 'mlflow.sqlite'}",
        "MLFLOW_FILES": str(folder / "files"),
        "MLFLOW_LISTEN_HOST": "127.0.0.1",
        "MLFLOW_LISTEN_PORT": str(port),
        "MLFLOW_WORKERS": "1",
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "accounts.ini"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-this-test",
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORDS["admin"],
    }
    accounts = environment | {
        "MLFLOW_TRACKING_URI": url,
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": PASSWORDS["admin"],
        "MLFLOW_TRAINING_PASSWORD": PASSWORDS["training"],
        "MLFLOW_SERVING_PASSWORD": PASSWORDS["serving"],
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", str(DEPLOY / "serve.sh")],
            env=environment,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,  # its workers end with it
        )
    try:
        wait_until_healthy(url, process, folder / "log")
        for _ in ("made", "made again"):
            subprocess.run(
                [sys.executable, str(DEPLOY / "accounts.py")], env=accounts, cwd=folder, check=True
            )
        yield Server(url)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline_s, log.read_text()
        try:
            if requests.get(f"{url}/health", timeout=5).ok:  # open to all: the health check
                return
        except requests.RequestException:
            pass
        time.sleep(POLL_S)


@pytest.fixture
def config(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlopsConfig:
    """As a step of a pipeline finds it."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "training")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORDS["training"])
    settings = MlflowSettings(
        tracking_uri=server.url, registry_uri=server.url, experiment_name="retraining"
    )
    return replace(read_config({}, tmp_path), mlflow=settings)


def test_each_account_may_do_what_it_is_for(
    server: Server, config: MlopsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our tracker and registry make a version as `training`; then everybody tries everything."""
    with RAGModelTracker(config.mlflow) as tracker:
        run = tracker.start_training_run("adapter")
        tracker.log_metrics(run, {"mrr": 0.4})
        tracker.end_run(run)
    registry = RAGModelRegistry(config)
    registry.register_embedding_model(run, {"mrr": 0.4}, model_name=MODEL)
    registry.set_challenger(MODEL, "1.0.0")

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "serving")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORDS["serving"])
    reading = RAGModelRegistry(config)
    assert reading.resolve(MODEL, "1.0.0").mlflow_version == "1"
    with pytest.raises(TrackingRefused):
        reading.set_challenger(MODEL, "1.0.0")

    alias = {"name": MODEL, "alias": "champion", "version": "1"}
    verbs: list[tuple[str, str, object, set[str]]] = [
        ("GET", f"registered-models/get?name={MODEL}", None, {"serving", "training", "admin"}),
        ("GET", f"runs/get?run_id={run}", None, {"serving", "training", "admin"}),
        ("POST", "registered-models/alias", alias, {"training", "admin"}),
        (
            "POST",
            "runs/log-metric",
            {"run_id": run, "key": "mrr", "value": 0.5, "timestamp": 1},
            {"training", "admin"},
        ),
        ("POST", "users/create", {"username": "eve", "password": "eve-long-secret"}, {"admin"}),
        ("PATCH", "users/update-admin", {"username": "serving", "is_admin": False}, {"admin"}),
        ("DELETE", "users/delete", {"username": "eve"}, {"admin"}),
        ("POST", "runs/delete", {"run_id": run}, {"training", "admin"}),  # who made it manages it
    ]
    for method, path, body, allowed in verbs:
        for who in (None, "nobody", "serving", "training", "admin"):
            status = server.ask(who, method, path, body)
            expected = {200} if who in allowed else {403} if who in PASSWORDS else {401}
            assert status in expected, (who, method, path, status)
    assert server.ask("admin", "GET", "users/get?username=eve") == 404
