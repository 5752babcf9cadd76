"""docker-compose.mlops.yml, read by the real docker-compose; no engine is needed for that."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent import settings as agent_settings
from gateway import config as gateway_config
from scripts import clickhouse_users, make_env

ROOT = Path(__file__).resolve().parents[2]
FILE = "docker-compose.mlops.yml"
COMPOSE = Path(sys.executable).with_name("docker-compose")
PROFILES = ("cluster",)
PROMISED = {
    *("mlflow", "postgres", "clickhouse", "minio", "mc"),
    *("airflow-webserver", "airflow-scheduler", "airflow-worker"),
    *("airflow-dag-processor", "airflow-triggerer"),
    *("prometheus", "alertmanager", "grafana"),
    *("gateway", "recorder", "agent", "model-a", "model-b"),
}


def compose(*arguments: str, env_file: Path) -> subprocess.CompletedProcess[str]:
    profiles = [word for name in PROFILES for word in ("--profile", name)]
    return subprocess.run(
        [COMPOSE, "-f", ROOT / FILE, "--env-file", env_file, *profiles, "config", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": str(env_file.parent)},
    )


@pytest.fixture(scope="module")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("env")
    assert make_env.main(directory) == 0
    return directory / ".env"


@pytest.fixture(scope="module")
def environ(env_file: Path) -> dict[str, str]:
    lines = env_file.read_text(encoding="utf-8").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


@pytest.fixture(scope="module")
def config(env_file: Path) -> dict[str, Any]:
    done = compose("--format", "json", env_file=env_file)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def services(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config["services"]
    return found


def test_every_profile_is_valid_and_says_nothing(env_file: Path) -> None:
    done = compose("-q", env_file=env_file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_services_have_the_promised_names(services: dict[str, Any]) -> None:
    assert set(services) >= PROMISED


def is_once(service: dict[str, Any]) -> bool:
    return service.get("restart") == "no"


def test_what_runs_has_a_health_check_and_limits(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert int(service["mem_limit"]) > 0, name
        if not is_once(service):
            assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
            assert service["pids_limit"] > 0, name
            assert service["cpus"] > 0, name
            assert service["restart"] == "unless-stopped", name


def test_what_is_waited_for_is_healthy_or_done(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            done = (
                "service_completed_successfully" if is_once(services[needed]) else "service_healthy"
            )
            assert how["condition"] == done, (name, needed)


def test_nothing_has_more_rights_than_it_needs(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        raised = {"postgres", "volumes-init"}
        assert bool(service.get("cap_add")) == (name in raised), name
        for volume in service.get("volumes", []):
            assert volume["type"] == "volume" or volume["read_only"], (name, volume["source"])


def test_a_model_server_goes_on_with_its_version_after_a_restart(services: dict[str, Any]) -> None:
    """The gateway knows versions by address: what was loaded is on a volume of the server's own."""
    kept = []
    for name in ("model-a", "model-b"):
        command = services[name]["command"]
        folder = command[command.index("--registered") + 1]
        kept += [one["source"] for one in services[name]["volumes"] if one["target"] == folder]
    assert len(set(kept)) == 2
    assert all(f"/v/{one}" in services["volumes-init"]["entrypoint"][2] for one in kept)


def test_the_agents_container_has_a_command_line_that_reaches_everything(
    services: dict[str, Any], environ: dict[str, str]
) -> None:
    """`docker-compose exec agent rag-mlops rollback rag`, as the runbooks say."""
    settings = agent_settings.load(ROOT / "deploy/agent/agent.yaml", environ)
    given = services["agent"]["environment"]
    assert [one.url for one in settings.gateways] == [given["MLOPS_GATEWAY_ADMIN_URLS"]]
    assert {"GATEWAY_OPERATOR_TOKEN", "AGENT_OPERATOR_TOKEN"} <= given.keys()
    assert os.access(ROOT / "deploy/rag-mlops", os.X_OK)
    assert "deploy/rag-mlops /usr/local/bin/" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_our_own_images_run_as_a_user(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if service["image"].startswith("rag-mlops"):
            assert service["user"] not in {"", "0", "0:0", "root"}, name


def test_everything_published_is_on_loopback(services: dict[str, Any]) -> None:
    published = {}
    for name, service in services.items():
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", name
            assert port["published"] not in published, name
            published[port["published"]] = name
    assert {port: published[port] for port in ("5000", "8080", "9001", "8123", "3001", "9000")} == {
        "5000": "mlflow",
        "8080": "airflow-webserver",
        "9001": "minio",
        "8123": "clickhouse",
        "3001": "grafana",
        "9000": "minio",
    }


def test_what_is_published_can_be_reached_and_the_rest_cannot(config: dict[str, Any]) -> None:
    assert config["networks"]["backend"]["internal"] is True
    for name, service in config["services"].items():
        assert ("edge" in service.get("networks", {})) == bool(service.get("ports")), name


def test_every_image_names_a_version(services: dict[str, Any]) -> None:
    for name, service in services.items():
        tag = service["image"].rpartition(":")[2]
        assert re.search(r"\d+[.-]\d+", tag), (name, service["image"])


@pytest.mark.parametrize("name", make_env.names((ROOT / ".env.example").read_text("utf-8")))
def test_without_one_of_its_secrets_it_refuses_to_start(
    name: str, environ: dict[str, str], tmp_path: Path
) -> None:
    lines = (f"{key}={'' if key == name else value}\n" for key, value in environ.items())
    (tmp_path / ".env").write_text("".join(lines), encoding="utf-8")
    done = compose("-q", env_file=tmp_path / ".env")
    assert done.returncode != 0
    assert name in done.stderr
    assert "make env" in done.stderr


def test_the_example_holds_no_value_and_names_all_that_is_asked_for() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert all(line.endswith("=") for line in example.splitlines() if line[:1] != "#")
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / FILE).read_text(encoding="utf-8")))
    assert asked == set(make_env.names(example))


def test_values_are_random_private_and_kept(env_file: Path, environ: dict[str, str]) -> None:
    assert len(set(environ.values())) == len(environ)
    assert env_file.stat().st_mode & 0o777 == 0o600
    text = env_file.read_text(encoding="utf-8")
    again, added = make_env.filled("A=\nB=\n", "A=kept\n")
    assert again.startswith("A=kept\nB=")
    assert added == ["B"]
    assert make_env.filled((ROOT / ".env.example").read_text("utf-8"), text) == (text, [])


def test_airflow_workers_can_be_scaled(services: dict[str, Any]) -> None:
    worker = services["airflow-worker"]
    assert "container_name" not in worker
    assert "ports" not in worker
    assert worker["environment"]["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"


def test_the_mounted_files_of_gateway_and_agent_are_good(
    environ: dict[str, str], services: dict[str, Any]
) -> None:
    gateway = gateway_config.load(ROOT / "deploy/gateway/gateway.yaml", environ)
    assert gateway.spool is not None
    agent = agent_settings.load(
        ROOT / "deploy/agent/agent.yaml",
        {k: v for k, v in services["agent"]["environment"].items() if k != "PGPASSWORD"},
    )
    assert [one.is_name for one in agent.gateways] == [True]
    recorder = gateway_config.load(ROOT / "deploy/gateway/gateway.yaml", None)
    assert recorder.spool == gateway.spool
    assert not [name for name in services["recorder"]["environment"] if "TOKEN" in name]


def test_clickhouse_users_have_the_rights_of_the_roles() -> None:
    assert (ROOT / "deploy/clickhouse/users.xml").read_text("utf-8") == clickhouse_users.text()


def test_what_is_mounted_or_copied_is_there(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), (name, volume["source"])
    for policy in ("rag-artifacts", "mlflow"):
        text = (ROOT / "deploy/minio" / f"{policy}.json").read_text("utf-8")
        resources = {one["Resource"][0] for one in json.loads(text)["Statement"]}
        assert resources == {f"arn:aws:s3:::{policy}", f"arn:aws:s3:::{policy}/*"}


TROUBLESHOOTING = """
logs mlflow
exec postgres psql -U mlflow_user -d mlflow_db
logs airflow-scheduler
exec airflow-webserver airflow dags unpause rag_retraining_pipeline
logs clickhouse
exec clickhouse clickhouse-client --query "SELECT 1"
logs minio
exec mc mc ls myminio/
"""
"""What users type; docs/operations.md repeats them."""


def test_the_troubleshooting_commands_name_what_is_there(services: dict[str, Any]) -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    for line in TROUBLESHOOTING.strip().splitlines():
        assert f"{FILE} {line}" in page
        assert line.split()[1] in services
    init = (ROOT / "deploy/postgres/init.sh").read_text(encoding="utf-8")
    assert "for program in mlflow airflow agent" in init
    assert "CREATE USER ${program}_user" in init
    assert "CREATE DATABASE ${program}_db OWNER ${program}_user" in init
    assert "MC_HOST_myminio" in services["mc"]["environment"]
    clickhouse = services["clickhouse"]["environment"]
    assert clickhouse["CLICKHOUSE_USER"] == "rag_admin"
    assert clickhouse["CLICKHOUSE_PASSWORD"] == clickhouse["CLICKHOUSE_ADMIN_PASSWORD"]


@pytest.mark.parametrize(
    ("service", "url"),
    [
        ("mlflow", "http://localhost:5000/health"),
        ("airflow-webserver", "http://localhost:8080/health"),
        ("clickhouse", "http://localhost:8123/ping"),
        ("minio", "http://localhost:9000/minio/health/live"),
        ("grafana", "http://localhost:3001/api/health"),
    ],
)
def test_the_health_addresses_belong_to_published_services(
    service: str, url: str, services: dict[str, Any]
) -> None:
    assert url in (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    port = url.split(":")[2].partition("/")[0]
    assert port in {one["published"] for one in services[service]["ports"]}


def test_the_image_runs_what_is_benchmarked() -> None:
    """Compiled where there is a compiler; the last stage does not come to be without the result."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    stages = {
        stage.splitlines()[0].rpartition(" AS ")[2]: stage for stage in text.split("\nFROM ")[1:]
    }
    assert "scripts/accelerate.py\n" in stages["compiled"]
    runtime = stages["runtime"]
    assert "COPY --from=compiled /opt/rag-mlops/gateway/_compiled " in runtime
    assert "assert compiled.active()" in runtime
    assert "gcc" not in runtime


def test_dockerignore_lets_through_what_is_copied() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source
        for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in re.sub(r"--\S+ ", "", line).split()[1:-1]
    }
    assert copied
    for source in copied:
        assert any(source == one or source.startswith(f"{one}/") for one in let_through), source
