"""Run the services of the compose file that are ours, in containers of our own image, and use them.

User, root file system, capabilities, limits, volumes, command and health check of each come from
docker-compose.mlops.yml, started by podman. What has no image here is replaced: ClickHouse by the
embedded engine, PostgreSQL by SQLite. Everything is in a network namespace of its own, so that the
usual ports are free; `make try-images` makes it. Airflow's image makes its tables in SQLite and
reads the DAGs. Needs root and `make images`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "var/images"
COMPOSE = Path(sys.executable).with_name("docker-compose")
PODMAN = ("podman", "--root", str(IMAGES / "storage"), "--runroot", str(IMAGES / "run"),
          "--storage-driver", os.environ.get("RAG_MLOPS_STORAGE", "overlay"))  # fmt: skip
ONCE = ("models", "migrate")
ORDER = ("models", "model-a", "model-b", "clickhouse", "migrate", "gateway", "recorder", "agent")
ENGINE = ["python", "-m", "mlops.local.clickhouse", "--path", "/tmp/engine", "--port", "8123"]
WAIT_S = 120
QUERIES = 200
DAGS = ["model_monitoring_pipeline", "rag_retraining_pipeline"]
AIRFLOW_FOLDERS = ("/opt/airflow/logs", "/data/retraining", "/run/airflow")
AIRFLOW = """
airflow db migrate >/tmp/migrate.log 2>&1 || { tail -20 /tmp/migrate.log; exit 1; }
"$RAG_MLOPS_PYTHON" -c 'import dags.retraining_steps, dags.monitoring_steps'
python -c 'from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder=None)
print(bag.import_errors, sorted(bag.dags))'
"""
ENVIRONMENT = {**os.environ, "CONTAINERS_CONF": str(IMAGES / "containers.conf")}


def podman(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        [*PODMAN, *arguments], check=False, capture_output=True, text=True, env=ENVIRONMENT
    )
    if check and done.returncode:
        sys.exit(f"podman {' '.join(arguments[:3])}: {done.stderr}")
    return done.stdout + done.stderr


def services(directory: Path) -> dict[str, Any]:
    subprocess.run([sys.executable, ROOT / "scripts/make_env.py", directory], check=True)
    text = subprocess.run(
        [
            *(COMPOSE, "-f", ROOT / "docker-compose.mlops.yml", "--env-file", directory / ".env"),
            *("config", "--format", "json"),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found: dict[str, Any] = json.loads(text)["services"]
    found["clickhouse"] = found["migrate"] | {
        "command": ENGINE,
        "tmpfs": ["/tmp:size=1g,mode=1777"],
    }
    agent = directory / "agent"
    agent.mkdir()
    config = (ROOT / "deploy/agent/agent.yaml").read_text(encoding="utf-8")
    memory = next(line for line in config.splitlines() if line.startswith("memory:"))
    config = config.replace(memory, "memory: /tmp/agent.sqlite")
    (agent / "agent.yaml").write_text(config, encoding="utf-8")
    found["agent"]["volumes"][0]["source"] = str(agent)
    return found


def arguments(name: str, service: dict[str, Any], directory: Path, names: list[str]) -> list[str]:
    """Of `podman run`, as the compose file has the service."""
    assert service["read_only"]
    made = ["--name", name, "--network", "host", "--user", service["user"], "--read-only"]
    made += ["--read-only-tmpfs=false", "--security-opt", "no-new-privileges"]
    made += [f"--cap-drop={one}" for one in service["cap_drop"]]
    made += [f"--tmpfs={one}" for one in service.get("tmpfs", [])]
    made += [f"--add-host={one}:127.0.0.1" for one in names]
    made += [f"--memory={service['mem_limit']}"]
    environment = dict(service.get("environment", {}))
    if "MLOPS_CLICKHOUSE_HOST" in environment:
        environment["MLOPS_CLICKHOUSE_HOST"] = "127.0.0.1"  # the only name the engine answers to
    for key, value in environment.items():
        made += ["--env", f"{key}={value}"]
    for volume in service.get("volumes", []):
        source = Path(volume["source"])
        if volume["type"] == "volume":
            source = directory / volume["source"]
            source.mkdir(exist_ok=True)
            os.chown(source, 10001, 10001)  # as volumes-init does
        mode = "ro" if volume.get("read_only") else "rw"
        made += ["--volume", f"{source}:{volume['target']}:{mode}"]
    return [*made, f"localhost/{service['image']}", *service["command"]]


def wait(name: str, service: dict[str, Any]) -> float:
    """Until the health check of the compose file passes; seconds."""
    began = time.monotonic()
    test = service.get("healthcheck", {}).get("test") or [
        "CMD",
        "healthy",
        "http://127.0.0.1:8123/ping",
    ]
    while time.monotonic() < began + WAIT_S:
        done = subprocess.run(
            [*PODMAN, "exec", name, *test[1:]], check=False, capture_output=True, env=ENVIRONMENT
        )
        if done.returncode == 0:
            return time.monotonic() - began
        time.sleep(0.5)
    sys.exit(f"{name} is not healthy after {WAIT_S} s:\n{podman('logs', name, check=False)}")


def try_airflow(service: dict[str, Any], directory: Path) -> None:
    """Airflow's image: makes its tables, reads both DAGs, and has the Python of their steps."""
    memory = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////tmp/airflow.db"}
    tried = service | {
        "command": ["sh", "-ec", AIRFLOW],
        "environment": service["environment"] | memory,
        "volumes": [],
        "tmpfs": ["/tmp:size=512m,mode=1777", *(f"{one}:mode=1777" for one in AIRFLOW_FOLDERS)],
    }
    said = podman("run", "--rm", *arguments("airflow", tried, directory, []))
    assert f"{{}} {DAGS}" in said, said
    print(f"airflow      reads {', '.join(DAGS)}", flush=True)


def ask(url: str, body: bytes | None = None, **headers: str) -> bytes:
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        content: bytes = answer.read()
        return content


def use() -> None:
    """Send queries, and find each in the log."""
    for number in range(QUERIES):
        body = json.dumps({"query_text": f"how do I sort array {number}", "user_id": f"u{number}"})
        answer = ask(
            "http://127.0.0.1:8000/query", body.encode(), **{"content-type": "application/json"}
        )
        assert json.loads(answer)["documents"]
    deadline = time.monotonic() + WAIT_S
    count = b"SELECT count(), uniqExact(record_id) FROM rag_features.query_features"
    while (rows := ask("http://127.0.0.1:8123/", count).split()) != [str(QUERIES).encode()] * 2:
        assert time.monotonic() < deadline, rows
        time.sleep(0.5)
    print(f"{QUERIES} queries answered, {QUERIES} rows")


def try_command_line() -> None:
    """As the documents say it: `exec agent rag-mlops`, with the container's own environment."""
    status = json.loads(podman("exec", "agent", "rag-mlops", "status", "-o", "json"))
    (route,) = status["routes"]
    asked = ("rollback", route["route"], "--reason", "tried", "--dry-run")
    podman("exec", "agent", "rag-mlops", *asked)
    print(f"rag-mlops    in the agent's container: status and rollback of {route['route']}")


def main() -> int:
    directory = Path(tempfile.mkdtemp(prefix="rag-mlops-images-"))
    directory.chmod(0o755)
    started = []
    try:
        found = services(directory)
        try_airflow(found["airflow-scheduler"], directory)
        for name in ORDER:
            once = ["--rm"] if name in ONCE else ["--detach"]
            if name not in ONCE:
                started.append(name)
            began = time.monotonic()
            podman("run", *once, *arguments(name, found[name], directory, list(found)))
            took = wait(name, found[name]) if name not in ONCE else time.monotonic() - began
            print(
                f"{name:12} {'done' if name in ONCE else 'healthy'} after {took:.1f} s", flush=True
            )
        assert "the request path is compiled" in podman("logs", "gateway")
        use()
        try_command_line()
        for name in started:
            user = podman("exec", name, "python", "-c", "import os; print(os.getuid())").strip()
            assert user == "10001", (name, user)
    finally:
        for name in reversed(started):
            podman("stop", "--time", "25", name, check=False)
            podman("rm", "--force", name, check=False)
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
