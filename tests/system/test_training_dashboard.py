"""Training Pipeline's queries on PostgreSQL with MLflow's real tables, as Grafana's own user.

Airflow's tables need Airflow: `make test-dashboards`.
"""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest

from tests.system.grafana_queries import queries
from tests.system.training_database import (
    ask,
    grant_reads,
    make_databases,
    mlflow_address,
    open_as_grafana,
    track,
)

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore"),  # MLflow's own, of the libraries it uses
]


def test_every_query_of_mlflows_database_has_a_value(postgresql_server: Path) -> None:
    server, start_s = postgresql_server, int(time.time()) - 60
    make_databases(server)
    track(mlflow_address(server))
    grant_reads(server, "mlflow_db")
    with open_as_grafana(server, "mlflow_db") as connection:
        end_s = int(time.time()) + 1
        asked = queries("mlflow")
        assert len(asked) >= 6
        assert not [one.panel for one in asked if not ask(connection, one, start_s, end_s)[1]]
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TABLE mine (x int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM tags")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"host={server} user=agent_user dbname=mlflow_db")
