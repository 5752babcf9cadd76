"""The monitoring pipeline against a real stack: what it tells, what it opens, and old hours."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops.feature_store import ClickHouseFeatureStore
from mlops.feature_store.offered import Defaults
from mlops.local.airflow import Airflow
from tests.pipelines.conftest import (
    MONITORING_DAG as DAG,
)
from tests.pipelines.conftest import (
    RETRAINING_DAG,
    RUN_TIMEOUT_S,
    Pipelines,
    task_states,
)

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(3_600)]

HOUR = datetime(2026, 3, 2, 12, tzinfo=UTC)
DECAYED_AGO = 48
"""Hours before."""
LOOK_S = 5.0
"""Of looking for a process, before Airflow is looked at again."""
RETRAINING = {"min_samples": 1_000_000, "route": "drifting"}
"""A run that stops at once: what is asked here is whether it is opened."""


def seed(
    pipelines: Pipelines, route: str, hours: range, *, centre: float = 0.0, score: float = 0.8
) -> None:
    """300 queries in each of so many hours before `HOUR`, their embeddings around a centre."""
    random = np.random.default_rng(3)
    defaults = Defaults(route=route, version="9.0.0")
    with ClickHouseFeatureStore(pipelines.config.clickhouse, defaults=defaults) as store:
        for ago in hours:
            began = HOUR - timedelta(hours=ago)
            vectors = random.normal(centre, 1.0, (300, 16))
            store.store_many(
                [
                    {
                        "query_id": f"{route}-{ago}-{number}",
                        "query_text": f"what is number {number}",
                        "embedding": vector.tolist(),
                        "response_time_ms": 20 + number % 7,
                        "relevance_score": score,
                        "ended_at": began + timedelta(seconds=12 * number),
                    }
                    for number, vector in enumerate(vectors)
                ]
            )


@pytest.fixture(scope="module")
def seeded(pipelines: Pipelines) -> Pipelines:
    """One route whose queries move at noon, and one whose answers get worse two days before."""
    seed(pipelines, "drifting", range(1, 13))
    seed(pipelines, "drifting", range(1), centre=1.0)
    seed(pipelines, "decaying", range(DECAYED_AGO + 1, DECAYED_AGO + 9))
    seed(pipelines, "decaying", range(DECAYED_AGO, DECAYED_AGO + 1), score=0.5)
    return pipelines


def read(pipelines: Pipelines, hour: datetime, name: str) -> Any:
    folder = pipelines.partitions / "monitoring" / f"{hour:%Y-%m-%dT%H%MZ}"
    return json.loads((folder / f"{name}.json").read_bytes())


def test_a_quiet_hour_finds_nothing_and_opens_nothing(seeded: Pipelines) -> None:
    hour = HOUR - timedelta(hours=1)
    found = seeded.test(DAG, {"hour": hour.isoformat()})
    assert found["state"] == "success"
    assert found["tasks"]["decide_retraining"] == "skipped"
    assert found["tasks"]["trigger_retraining"] == "skipped"
    assert [one for one in read(seeded, hour, "alerts") if one["route"] == "drifting"] == []


@pytest.mark.parametrize(
    ("hour", "route", "name"),
    [
        (HOUR, "drifting", "embedding"),
        (HOUR - timedelta(hours=DECAYED_AGO), "decaying", "relevance_score"),
    ],
)
def test_drift_and_decay_open_one_retraining_in_a_window_and_are_told_once(
    seeded: Pipelines, hour: datetime, route: str, name: str
) -> None:
    conf = {"hour": hour.isoformat(), "retraining": RETRAINING}
    first = seeded.test(DAG, conf)
    assert first["tasks"]["trigger_retraining"] == "success", first
    assert first["tasks"]["send_alerts"] == "success", first
    assert (route, name, True) in {
        (one["route"], one["name"], one["retrain"]) for one in read(seeded, hour, "alerts")
    }
    decision = read(seeded, hour, "decision")
    assert decision["run_id"] == f"monitoring__{hour:%Y-%m-%d}T0000Z_24h"

    again = seeded.test(DAG, conf)
    assert again["tasks"]["trigger_retraining"] == "skipped", again
    told = [
        one["data"]["findings"]
        for one in seeded.hook.taken
        if one["data"]["partition"] == f"{hour:%Y-%m-%dT%H%MZ}"
    ]
    assert len(told) == 1
    assert (route, name) in {(one["route"], one["name"]) for one in told[0]}


def test_the_hour_is_kept_in_the_history(seeded: Pipelines) -> None:
    request = {"hour": HOUR.isoformat()}
    code, _ = seeded.step("monitor", "refresh", request)
    assert code == 0
    assert seeded.step("monitor", "refresh", request)[0] == 0  # replaces itself
    with ClickHouseFeatureStore(seeded.config.clickhouse) as store:
        history = store.get_model_performance_history("rag_embedding_model", days=3_000)
    (day,) = [one for one in history if (one.day, one.version) == (HOUR.date(), "9.0.0")]
    assert day.requests == 13 * 300


def test_hours_are_filled_in_later_by_airflow_though_one_is_killed(
    seeded: Pipelines, airflow: Airflow
) -> None:
    """Four hours of a morning, the last with drift: all are looked at, none opens a retraining."""
    told_before = len(seeded.hook.taken)
    hours = [HOUR - timedelta(hours=ago) for ago in range(3, -1, -1)]
    for hour in hours:  # what the tests before this one have left of them
        folder = seeded.partitions / "monitoring" / f"{hour:%Y-%m-%dT%H%MZ}"
        for left in folder.glob("*.json"):
            left.unlink()
    asked = {"dag_id": DAG, "from_date": hours[0].isoformat(), "to_date": HOUR.isoformat()}
    airflow.wait_for_dag(DAG)
    airflow.insist("POST", "backfills", asked)  # before runs of it are scheduled
    airflow.unpause(DAG)
    airflow.wait_until(lambda: is_killed(seeded, "collect"), RUN_TIMEOUT_S, "no step begins")

    airflow.wait_until(lambda: all_ended(airflow, len(hours)), RUN_TIMEOUT_S, "not filled in")
    runs = filled_in(airflow)
    assert [one["state"] for one in runs] == ["success"] * len(hours)
    tries = [
        task["try_number"]
        for one in runs
        for task in airflow.tasks(DAG, one["dag_run_id"])
        if task["task_id"] == "collect"
    ]
    assert sorted(tries) == [1, 1, 1, 2]
    for hour in hours:
        decision = read(seeded, hour, "decision")
        assert "run_id" not in decision
    assert "filled in later" in read(seeded, HOUR, "decision")["sentence"]
    assert opened(airflow) == []
    now_told = seeded.hook.taken[told_before:]
    assert not any("2026-03" in one["data"]["partition"] for one in now_told)


def test_a_drift_that_is_looked_at_twice_opens_one_retraining_which_airflow_runs(
    seeded: Pipelines, both_dags: Airflow
) -> None:
    """Both looks are under way at once, and each comes to its own decision."""
    conf = {"hour": HOUR.isoformat(), "retraining": RETRAINING}
    looks = ("look", "look-again")
    for run_id in looks:
        both_dags.run(DAG, run_id, conf)
    assert [both_dags.wait(DAG, one, RUN_TIMEOUT_S) for one in looks] == ["success"] * 2
    tried = [task_states(both_dags, DAG, one)["trigger_retraining"] for one in looks]
    assert sorted(map(str, tried)) == ["skipped", "success"]

    (run,) = opened(both_dags)
    run_id = f"monitoring__{HOUR:%Y-%m-%d}T0000Z_24h"
    assert run["dag_run_id"] == run_id
    assert run["conf"]["until"] == (HOUR + timedelta(hours=1)).isoformat()
    assert "drifting" in run["conf"]["reason"]
    assert both_dags.wait(RETRAINING_DAG, run_id, RUN_TIMEOUT_S) == "success"
    states = task_states(both_dags, RETRAINING_DAG, run_id)
    assert (states["extract"], states["register"], states["report"]) == (
        "success",
        "skipped",
        "success",
    )


def opened(airflow: Airflow) -> list[dict[str, Any]]:
    """Runs of the retraining pipeline that a look has asked for."""
    runs = airflow.call("GET", f"dags/{RETRAINING_DAG}/dagRuns")["dag_runs"]
    return [one for one in runs if one["dag_run_id"].startswith("monitoring__")]


def filled_in(airflow: Airflow) -> list[dict[str, Any]]:
    """Runs of the back-fill; the schedule may have begun one of its own."""
    found: list[dict[str, Any]] = airflow.call("GET", f"dags/{DAG}/dagRuns")["dag_runs"]
    return [one for one in found if one["run_type"] == "backfill"]


def all_ended(airflow: Airflow, count: int) -> bool:
    runs = filled_in(airflow)
    return len(runs) == count and all(one["state"] in {"success", "failed"} for one in runs)


def is_killed(pipelines: Pipelines, step: str) -> bool:
    """The first process that does this step of ours, once there is one; whether there was."""
    mark = f"MLOPS_RETRAINING_DATA_PATH={pipelines.partitions}".encode()
    command = f"dags.steps\0monitor\0{step}\0".encode()
    deadline_s = time.monotonic() + LOOK_S
    while time.monotonic() < deadline_s:
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if command not in (entry / "cmdline").read_bytes():
                    continue
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
                    return True
        time.sleep(0.05)
    return False
