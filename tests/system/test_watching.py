"""Every panel on a real Prometheus and the ClickHouse engine; a rollback reaches a webhook."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mlops.local.stack import ANY_PORTS, Stack
from tests.process.conftest import Load
from tests.system.grafana_queries import Asked, clickhouse_sql, promql, queries
from tests.system.watched_stack import (
    ROOT,
    ROUTE,
    Watched,
    alertmanager_config,
    model_server,
    serve,
    until,
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

VARIABLES = {"route": ROUTE, "version": "1.0.0"}
REQUESTS_PER_S = 60.0
POLICY = {
    "steps": [{"setWeight": 40}, {"pause": {}}],
    "lease": "10s",
    "grace": "1s",
    "dwell": "1s",
    "checks": {"errors": {"margin": 0.02}, "latency": {"quantiles": [0.95], "margin": "50%"}},
}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as made:
        yield made


def test_rules_are_right_and_every_alert_goes_off_when_it_should(tmp_path: Path) -> None:
    rules = [str(path) for path in (ROOT / "prometheus/rules").glob("*.yml")]
    subprocess.run(["promtool", "check", "rules", *rules], check=True, capture_output=True)
    cases = str(ROOT / "prometheus/tests/alerts.yml")
    done = subprocess.run(
        ["promtool", "test", "rules", cases], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    webhook = (ROOT / "alertmanager/nobody.url").read_text(encoding="utf-8").strip()
    config = tmp_path / "alertmanager.yml"
    config.write_text(alertmanager_config(webhook), encoding="utf-8")
    done = subprocess.run(
        ["amtool", "check-config", config], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 receivers" in done.stdout
    for severity, receiver in (("critical", "pager"), ("warning", "people")):
        test = ["amtool", "config", "routes", "test", f"--config.file={config}"]
        done = subprocess.run(
            [*test, f"severity={severity}"], check=True, capture_output=True, text=True
        )
        assert done.stdout.split() == [receiver]


async def test_a_rollback_is_told_and_no_panel_is_empty(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    stack = Stack(directory=tmp_path, ports=ANY_PORTS, environ=os.environ)
    watched = Watched(stack, tmp_path)
    async with contextlib.AsyncExitStack() as running:
        # Equally bad, so that there are errors to show and the judge has nothing to take back.
        stable, canary = [await serve(model_server(error_every=20), running) for _ in "AB"]
        start_s = int(time.time()) - 5
        async with (
            watched.run(stable),
            Load(stack.addresses["gateway"], REQUESTS_PER_S) as load,
        ):
            await load.until_answered(50)
            await _release(watched, session, canary)
            await _score(watched, session, list(load.answered)[:30])
            await until(lambda: _is_told(watched), "the webhook to be told of the rollback")
            asked = queries("prometheus", "clickhouse")
            empty = [one.panel for one in asked]

            async def none_is_empty() -> bool:
                empty[:] = [
                    one.panel
                    for one in asked
                    if one.panel in empty and not await _values(watched, session, one, start_s)
                ]
                return not empty

            await until(none_is_empty, empty)


async def _post(
    session: aiohttp.ClientSession, url: str, token: str, body: object
) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}", "x-actor": "ann"}
    async with session.post(url, json=body, headers=headers) as answer:
        assert answer.status < 300, await answer.text()
        return dict(await answer.json())


async def _release(watched: Watched, session: aiohttp.ClientSession, canary: str) -> None:
    """Start one, and take it back once its evidence and lease were seen."""
    addresses, tokens = watched.stack.addresses, watched.stack.secrets
    body = {"route": ROUTE, "version": "1.1.0", "endpoints": [canary], "reason": "better"}
    token = tokens["AGENT_OPERATOR_TOKEN"]
    await _post(session, f"{addresses['agent']}/v1/releases", token, body | {"policy": POLICY})

    for metric in ("agent_release_metric_analysis", "gateway_lease_remaining_seconds"):
        await until(lambda name=metric: _is_seen(watched, session, name), f"{metric} of a release")  # type: ignore[misc]
    await _post(
        session,
        f"{addresses['admin']}/v1/routes/{ROUTE}/rollback",
        tokens["GATEWAY_OPERATOR_TOKEN"],
        {"reason": "not now"},
    )


async def _is_seen(watched: Watched, session: aiohttp.ClientSession, metric: str) -> bool:
    asked = Asked(metric, "prometheus", metric)
    return bool(await _values(watched, session, asked, int(time.time()) - 5))


async def _score(watched: Watched, session: aiohttp.ClientSession, ids: list[str]) -> None:
    url = f"{watched.stack.addresses['agent']}/v1/evaluations"
    scores = [{"request_id": one, "name": "helpful", "score": 0.75} for one in ids]
    await _post(session, url, watched.stack.secrets["AGENT_OPERATOR_TOKEN"], scores)


async def _is_told(watched: Watched) -> bool:
    told = [one["labels"] for one in watched.alerts if one["status"] == "firing"]
    return any(
        one["alertname"] == "ReleaseRolledBack" and one["route"] == ROUTE for one in told
    ) and all("runbook_url" in one["annotations"] for one in watched.alerts)


async def _values(
    watched: Watched, session: aiohttp.ClientSession, asked: Asked, start_s: int
) -> int:
    """How many a query gives; one that fails ends the test at once."""
    now_s = int(time.time())
    if asked.source == "prometheus":
        query = promql(asked.text, VARIABLES | {"version": ".*"})
        parameters = {"query": query, "start": start_s, "end": now_s, "step": 1}
        url = f"{watched.prometheus}/api/v1/query_range"
        async with session.post(url, data=parameters) as answer:
            result = await answer.json()
        assert result["status"] == "success", (asked.panel, result)
        return len(result["data"]["result"])
    sql = clickhouse_sql(asked.text, start_s, now_s, 5, VARIABLES)
    url = f"{watched.stack.addresses['clickhouse']}/?database=rag_features"
    async with session.post(url, data=f"{sql}\nFORMAT JSONCompact") as answer:
        assert answer.status == 200, (asked.panel, sql, await answer.text())
        return len((await answer.json(content_type=None))["data"])
