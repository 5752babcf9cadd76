"""Alert rules, their cases, their pages and where they go, read as files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = ROOT / "docs/runbooks"


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


RULES: list[dict[str, Any]] = read("prometheus/rules/alerts.yml")["groups"][0]["rules"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_has_severity_texts_and_a_page_that_says_the_same(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
    page = (ROOT / rule["annotations"]["runbook_url"]).read_text(encoding="utf-8")
    assert page.startswith(f"# {rule['alert']}\n\nSeverity: {rule['labels']['severity']}.")
    assert f"```promql\n{rule['expr'].strip()}\n```" in page
    assert (f"for {rule['for']}:" if "for" in rule else "at once:") in page
    for heading in ("What it means", "Where to look", "What to do"):
        assert f"**{heading}.**" in page


def test_every_page_belongs_to_an_alert_and_is_listed() -> None:
    pages = {Path(rule["annotations"]["runbook_url"]).name for rule in RULES}
    assert {path.name for path in RUNBOOKS.glob("*.md")} == pages | {"index.md"}
    index = (RUNBOOKS / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\((\S+\.md)\)", index)) == pages


def test_every_alert_has_a_case_that_sets_it_off_with_another_left_alone() -> None:
    cases = {case["name"]: case for case in read("prometheus/tests/alerts.yml")["tests"]}
    assert set(cases) == {rule["alert"] for rule in RULES}
    for case in cases.values():
        assert any(one["exp_alerts"] for one in case["alert_rule_test"]), case["name"]


def test_alerts_name_metrics_that_are_made_here() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8")
        for name in ("gateway", "agent", "deploy")
        for path in (ROOT / name).rglob("*")
        if path.suffix in {".py", ".xml"}
    )
    recorded = {
        rule["record"] for rule in read("prometheus/rules/recording.yml")["groups"][0]["rules"]
    }
    words = {
        "instance",
        "integration",
        "reason",
        "route",
        "slot",
        "sum",
        "max",
        "by",
        "or",
        "on",
        "and",
        "unless",
        "offset",
        "vector",
        "absent",
        "increase",
        "predict_linear",
        "up",
    }
    for rule in RULES:
        expression = re.sub(r"\{[^}]*\}|\[[^]]*\]|\"[^\"]*\"", "", rule["expr"])
        for name in set(re.findall(r"[a-z_][a-z0-9_:]{2,}", expression)) - words:
            if name.startswith(("node_", "alertmanager_")) or name in recorded:
                continue
            base = re.sub(r"_(total|count|bucket)$", "", name)
            assert re.search(rf"[\"']{base}|[\"']{base.removeprefix('recorder_')}[\"']", sources), (
                name
            )


def test_inhibitions_name_alerts_and_critical_ones_page() -> None:
    config = read("alertmanager/alertmanager.yml")
    names = {rule["alert"] for rule in RULES}
    for rule in config["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            assert set(re.findall(r"[A-Z]\w+", matcher)) <= names
    assert {one["name"] for one in config["receivers"]} == {"people", "pager"}
    for one in config["receivers"]:
        (webhook,) = one["webhook_configs"]
        assert webhook["url_file"] == f"/run/secrets/alert_{one['name']}_url"
        assert "url" not in webhook, "an address that wakes people is a secret"
    assert config["route"]["routes"][0]["matchers"] == ['severity = "critical"']


def test_scraped_services_are_in_the_compose_file() -> None:
    services = read("docker-compose.mlops.yml")["services"]
    for job in read("prometheus/prometheus.yml")["scrape_configs"]:
        targets = [t for one in job.get("static_configs", []) for t in one["targets"]]
        names = [n for one in job.get("dns_sd_configs", []) for n in one["names"]]
        for name in (*names, *(target.partition(":")[0] for target in targets)):
            assert name in services or name == "localhost", name
