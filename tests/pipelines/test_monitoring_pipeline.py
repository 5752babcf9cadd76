"""The monitoring pipeline against a real stack: drift opens one retraining in a window."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from mlops.feature_store import ClickHouseFeatureStore
from mlops.feature_store.offered import Defaults
from tests.pipelines.conftest import Pipelines

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

DAG = "model_monitoring_pipeline"
HOUR = datetime(2026, 3, 2, 12, tzinfo=UTC)
RETRAINING = {"min_samples": 1_000_000, "route": "drifting"}
"""A run that stops at once: what is asked here is whether it is opened."""


def seed(pipelines: Pipelines, hours: range, centre: float) -> None:
    """300 queries in each hour, their embeddings around a centre."""
    random = np.random.default_rng(3)
    defaults = Defaults(route="drifting", version="9.0.0")
    with ClickHouseFeatureStore(pipelines.config.clickhouse, defaults=defaults) as store:
        for ago in hours:
            began = HOUR - timedelta(hours=ago)
            vectors = random.normal(centre, 1.0, (300, 16))
            store.store_many(
                [
                    {
                        "query_id": f"{ago}-{number}",
                        "query_text": f"what is number {number}",
                        "embedding": vector.tolist(),
                        "response_time_ms": 20 + number % 7,
                        "relevance_score": 0.8,
                        "ended_at": began + timedelta(seconds=12 * number),
                    }
                    for number, vector in enumerate(vectors)
                ]
            )


@pytest.fixture(scope="module")
def seeded(pipelines: Pipelines) -> Pipelines:
    seed(pipelines, range(1, 13), 0.0)
    seed(pipelines, range(1), 1.0)
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


def test_drift_opens_one_retraining_in_a_window(seeded: Pipelines) -> None:
    conf = {"hour": HOUR.isoformat(), "retraining": RETRAINING}
    first = seeded.test(DAG, conf)
    assert first["tasks"]["trigger_retraining"] == "success", first
    alerts = read(seeded, HOUR, "alerts")
    assert any(one["name"] == "embedding" and one["retrain"] for one in alerts)
    decision = read(seeded, HOUR, "decision")
    assert decision["run_id"] == "drift__2026-03-02T0000Z_24h"

    again = seeded.test(DAG, conf)
    assert again["tasks"]["trigger_retraining"] == "skipped", again


def test_the_hour_is_kept_in_the_history(seeded: Pipelines) -> None:
    request = {"hour": HOUR.isoformat()}
    code, _ = seeded.step("monitor", "refresh", request)
    assert code == 0
    assert seeded.step("monitor", "refresh", request)[0] == 0  # replaces itself
    with ClickHouseFeatureStore(seeded.config.clickhouse) as store:
        history = store.get_model_performance_history("rag_embedding_model", days=3_000)
    (day,) = [one for one in history if one.version == "9.0.0"]
    assert day.requests == 13 * 300


def test_a_hour_filled_in_later_opens_nothing(seeded: Pipelines) -> None:
    request = {"hour": HOUR.isoformat(), "may_retrain": False}
    for step in ("collect", "anomalies", "drift", "quality", "alerts"):
        assert seeded.step("monitor", step, request)[0] == 0, step
    code, said = seeded.step("monitor", "decide", request)
    assert code == 99
    assert "filled in later" in said["sentence"]
