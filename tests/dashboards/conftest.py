"""What Grafana would be told: the demo's two releases and a run of a DAG, asked panel by panel.

Debian's Prometheus watches the demo's stack; ClickHouse is the engine that the demo runs; Training
Pipeline reads PostgreSQL, in which MLflow and Airflow made their tables. `make test-dashboards`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from rich.console import Console

from cli.demo.story import Story
from cli.demo.view import View
from mlops.feature_store.connection import open_client
from mlops.service.aio import spawn
from tests.dashboards.frames import Frame, prometheus_frames, series_frames, table_frame
from tests.system.grafana_queries import Asked, clickhouse_sql, promql, queries
from tests.system.training_database import (
    ask,
    grant_reads,
    make_databases,
    mlflow_address,
    open_as_grafana,
    track,
)
from tests.system.watched_stack import ROOT, ROUTE, Watched, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

AIRFLOW = ROOT / ".venv-airflow-image" / "bin"
AIRFLOW_TIMEOUT_S = 600.0
TRAINING_SPAN_S = 6 * 3600.0
EMBEDDINGS_EVERY_S = 0.2
CHROMIUM = "/usr/bin/chromium"
CHROMIUM_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
VERSIONS = "1.0.0','1.1.0','1.2.0"
"""All that there are, between a query's quotes: what Grafana puts in for `All`."""


@dataclass(slots=True)
class Told:
    """Frames by dashboard and panel, and the time that they are of."""

    start_s: int = 0
    end_s: int = 0
    frames: dict[tuple[str, int], list[Frame]] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)

    def add(self, asked: Asked, frames: list[Frame]) -> None:
        if not any(one["fields"][0]["values"] for one in frames):
            self.empty.append(asked.panel)
        self.frames.setdefault((asked.dashboard, asked.number), []).extend(frames)

    def span_s(self, dashboard: str) -> tuple[float, float]:
        """What is drawn: the demo; of Training Pipeline, whose runs are far apart, some hours."""
        if dashboard == "training-pipeline":
            return self.end_s - TRAINING_SPAN_S, self.end_s + TRAINING_SPAN_S / 4
        return self.start_s, self.end_s

    def events(self, dashboard: str) -> list[dict[str, Any]]:
        """Releases, to be drawn over the dashboards that ask for them."""
        return [
            {"at_ms": at_ms, "title": title}
            for frame in self.frames.get((dashboard, 0), [])
            for at_ms, title in zip(
                frame["fields"][0]["values"], frame["fields"][1]["values"], strict=True
            )
        ]


@pytest.fixture(scope="session")
def told(postgresql_server: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    found = Told()
    folder = tmp_path_factory.mktemp("told")
    asyncio.run(_tell(found, folder, postgresql_server))
    return found


async def _tell(told: Told, folder: Path, server: Path) -> None:
    (folder / "demo").mkdir()
    story = Story(folder / "demo", View(Console(quiet=True)), os.environ)
    watched = Watched(story.stack, folder)
    try:
        await asyncio.to_thread(story.start)
        story.stack.kill("recorder")
        await asyncio.to_thread(watched.start_recorder)
        async with watched.watch(), aiohttp.ClientSession() as session:
            told.start_s = int(time.time())
            asking = spawn(_ask_for_embeddings(session, story), name="ask for embeddings")
            await story.tell()
            asking.cancel()
            ended = 'agent_release_phase{phase="rolled_back"} == 1'
            await until(lambda: _holds(watched, session, ended), ended)
            told.end_s = int(time.time())
            await _ask_prometheus(told, watched, session)
            await _ask_clickhouse(told, watched)
        await asyncio.to_thread(_track_and_run, folder, story.stack.environment(), server)
    finally:
        await asyncio.to_thread(story.stack.stop)
    await asyncio.to_thread(_ask_postgresql, told, server)


async def _ask_for_embeddings(session: aiohttp.ClientSession, story: Story) -> None:
    """Some clients want the query's embedding too, which the demo's do not; until cancelled."""
    url = f"{story.stack.addresses['gateway']}/query"
    for number in itertools.count():
        body = {"query_text": f"how do I sort {number} arrays", "include_embedding": True}
        async with session.post(
            url, json=body, headers={"x-user-id": f"reader-{number}"}
        ) as answer:
            await answer.read()
        await asyncio.sleep(EMBEDDINGS_EVERY_S)


def _track_and_run(folder: Path, stack: dict[str, str], server: Path) -> None:
    """MLflow's and Airflow's tables, made by them; the monitoring DAG looks at the demo's rows."""
    make_databases(server)
    track(mlflow_address(server))
    address = f"postgresql+psycopg2://airflow_user@/airflow_db?host={server}"
    environment = stack | {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": address,
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "MLOPS_RETRAINING_DATA_PATH": str(folder / "partitions"),
        "PYTHONPATH": str(ROOT),
    }

    def run(*command: str) -> None:
        done = subprocess.run(
            command,
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=AIRFLOW_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    now = datetime.now(UTC).isoformat()
    run(str(AIRFLOW / "airflow"), "db", "migrate")
    script = str(ROOT / "tests" / "pipelines" / "run_dag.py")
    conf = json.dumps({"hour": now})
    run(str(AIRFLOW / "python"), script, "model_monitoring_pipeline", conf, now)
    grant_reads(server, "mlflow_db", "airflow_db")


async def _holds(watched: Watched, session: aiohttp.ClientSession, query: str) -> bool:
    url = f"{watched.prometheus}/api/v1/query"
    async with session.post(url, data={"query": query}) as answer:
        return bool((await answer.json())["data"]["result"])


async def _ask_prometheus(told: Told, watched: Watched, session: aiohttp.ClientSession) -> None:
    for asked in queries("prometheus"):
        query = promql(asked.text, {"route": ".*", "version": ".*"})
        span = {"start": told.start_s, "end": told.end_s, "step": 2, "time": told.end_s}
        url = f"{watched.prometheus}/api/v1/query{'' if asked.is_instant else '_range'}"
        async with session.post(url, data={"query": query, **span}) as answer:
            result = await answer.json()
        assert result["status"] == "success", (asked.panel, result)
        told.add(asked, prometheus_frames(result["data"]["result"], asked.legend))


async def _ask_clickhouse(told: Told, watched: Watched) -> None:
    variables = {"route": ROUTE, "version": VERSIONS}
    client = await open_client(watched.stack.clickhouse, database="rag_features")
    try:
        for asked in queries("clickhouse"):
            sql = clickhouse_sql(asked.text, told.start_s, told.end_s, 5, variables)
            result = await client.query(sql)
            _add_rows(told, asked, result.column_names, result.result_rows)
    finally:
        await client.close()


def _ask_postgresql(told: Told, server: Path) -> None:
    for source in ("mlflow", "airflow"):
        with open_as_grafana(server, f"{source}_db") as connection:
            for asked in queries(source):
                _add_rows(told, asked, *ask(connection, asked, told.start_s, int(time.time()) + 1))


def _add_rows(told: Told, asked: Asked, columns: Any, rows: Any) -> None:
    frames = series_frames(columns, rows) if asked.is_series else [table_frame(columns, rows)]
    told.add(asked, frames)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  only this target has it

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_FLAGS))
        yield found
        found.close()
