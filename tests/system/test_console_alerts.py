"""The console's alerts, from a real Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from agent.console.alerts import ASK_EVERY_S, PrometheusAlerts
from agent.settings import ALERT_GROUP, AlertSettings
from tests.system.watched_stack import free_port, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(90)]


def rule(name: str, expr: str) -> dict[str, object]:
    labels = {"severity": "critical", "route": "rag"}
    return {"alert": name, "expr": expr, "labels": labels, "annotations": {"summary": "said"}}


RULES = {
    "groups": [
        {
            "name": ALERT_GROUP,
            "interval": "1s",
            "rules": [
                rule("Fires", "vector(1) > 0"),
                rule("Waits", "vector(1) > 0") | {"for": "1h"},
                rule("Silent", "vector(1) > 1"),
                rule("Broken", "label_replace(up, 'a', '$1', 'b', '(')"),
            ],
        },
        {"name": "theirs", "interval": "1s", "rules": [rule("Other", "vector(1) > 0")]},
    ]
}


async def test_alerts_of_our_rules_are_read_and_a_prometheus_that_is_away_is_said(
    tmp_path: Path,
) -> None:
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(RULES), encoding="utf-8")
    config = {"rule_files": ["rules.yml"], "global": {"evaluation_interval": "1s"}}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    port, now_s = free_port(), 0.0
    settings = AlertSettings(prometheus=f"http://127.0.0.1:{port}", groups=frozenset({ALERT_GROUP}))
    asked = PrometheusAlerts(settings, lambda: now_s)

    async def evaluated() -> bool:
        nonlocal now_s
        now_s += ASK_EVERY_S
        alerts, _, problem = await asked.look()
        return len(alerts or ()) == 2 and "Broken" in problem

    async with running(tmp_path, port):
        await until(evaluated, "two alerts")
        alerts, age_s, problem = await asked.look()
        assert alerts is not None
        assert [(one.name, one.state, one.route) for one in alerts] == [
            ("Fires", "firing", "rag"), ("Waits", "pending", "rag"),
        ]  # fmt: skip
        assert all(one.since for one in alerts)
        assert age_s == 0
        assert problem == "Prometheus cannot evaluate Broken"
    now_s += ASK_EVERY_S
    again, age_s, problem = await asked.look()
    assert again == alerts
    assert age_s == ASK_EVERY_S
    assert "did not answer" in problem


@contextlib.asynccontextmanager
async def running(directory: Path, port: int) -> AsyncIterator[None]:
    server = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        server.terminate()
        await server.wait()
