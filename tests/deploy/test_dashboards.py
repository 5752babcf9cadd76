"""Grafana's dashboards: the files are what Python makes, and every panel says what it shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.__main__ import DIRECTORY, PAGES, text_of
from grafana.panels import COLUMNS, Page

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS: list[dict[str, Any]] = [
    json.loads(path.read_text("utf-8")) for path in sorted(DIRECTORY.glob("*.json"))
]
PANELS = [(one["title"], panel) for one in DASHBOARDS for panel in one["panels"]]
PROMISED = {"Model Performance", "Training Pipeline", "Feature Store", "System Health", "Release"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.uid)
def test_the_file_is_what_python_makes(page: Page) -> None:
    assert (DIRECTORY / f"{page.uid}.json").read_text(encoding="utf-8") == text_of(page), (
        "run `make dashboards`"
    )


def test_the_promised_dashboards_are_there_and_no_others() -> None:
    assert {one["title"] for one in DASHBOARDS} == PROMISED
    assert len(DASHBOARDS) == len(PAGES)
    assert len(PANELS) >= 30


@pytest.mark.parametrize(
    ("title", "panel"), PANELS, ids=[f"{page}: {panel['title']}" for page, panel in PANELS]
)
def test_a_panel_says_what_it_shows(title: str, panel: dict[str, Any]) -> None:
    assert panel["type"] in {"stat", "timeseries", "table"}  # none is a row that hides others
    assert len(panel["description"]) > 12
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"][0]["value"] is None
    assert panel["targets"]
    refs = [target["refId"] for target in panel["targets"]]
    assert len(refs) == len(set(refs))
    for target in panel["targets"]:
        assert target["datasource"]["uid"] in {"prometheus", "clickhouse", "mlflow", "airflow"}


def test_colours_are_grafanas_own_which_fit_dark_and_light() -> None:
    for _, panel in PANELS:
        for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
            assert step["color"] in {"green", "yellow", "red", "blue"}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one["uid"])
def test_panels_do_not_overlap_and_have_numbers(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one["uid"])
def test_variables_that_are_used_exist_and_are_used(dashboard: dict[str, Any]) -> None:
    texts = json.dumps([panel["targets"] for panel in dashboard["panels"]])
    used = set(re.findall(r"\$\{?(route|version)\b", texts))
    assert used == {one["name"] for one in dashboard["templating"].get("list", [])}


def test_route_and_version_can_be_chosen_and_releases_are_drawn() -> None:
    by_title = {one["title"]: one for one in DASHBOARDS}
    names = [one["name"] for one in by_title["Model Performance"]["templating"]["list"]]
    assert names == ["route", "version"]
    for title in ("Model Performance", "Release"):
        (annotation,) = by_title[title]["annotations"]["list"]
        assert annotation["enable"]
        assert "FROM release_events" in annotation["target"]["rawSql"]


def test_data_sources_are_provisioned_and_have_no_secret_of_their_own() -> None:
    text = (ROOT / "grafana/provisioning/datasources/datasources.yml").read_text(encoding="utf-8")
    sources = {one["uid"]: one for one in yaml.safe_load(text)["datasources"]}
    used = {
        (target["datasource"]["uid"], target["datasource"]["type"])
        for _, panel in PANELS
        for target in panel["targets"]
    }
    assert {(uid, sources[uid]["type"]) for uid, _ in used} == used
    compose = yaml.safe_load((ROOT / "docker-compose.mlops.yml").read_text(encoding="utf-8"))
    given = compose["services"]["grafana"]["environment"]
    for one in sources.values():
        for secret in one.get("secureJsonData", {}).values():
            assert secret.startswith("$")
            assert secret[1:] in given


def test_dashboards_are_provisioned_where_they_are_mounted() -> None:
    text = (ROOT / "grafana/provisioning/dashboards/dashboards.yml").read_text(encoding="utf-8")
    (provider,) = yaml.safe_load(text)["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.mlops.yml").read_text(encoding="utf-8"))
    grafana = compose["services"]["grafana"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (DIRECTORY / home.name).exists()


def test_what_grafana_reads_of_postgresql_is_granted() -> None:
    grants = (ROOT / "deploy/postgres/grants.sh").read_text(encoding="utf-8")
    for source in ("mlflow", "airflow"):
        granted = re.search(rf"^grant {source}_db (.*)$", grants, re.MULTILINE)
        assert granted is not None
        queries = " ".join(
            target["rawSql"]
            for _, panel in PANELS
            for target in panel["targets"]
            if target["datasource"]["uid"] == source
        )
        read = set(re.findall(r"(?:FROM|JOIN) (\w+)", queries)) - {"end_date"}
        assert read <= set(granted[1].split())


def test_the_page_names_every_dashboard() -> None:
    page = (ROOT / "docs/dashboards.md").read_text(encoding="utf-8")
    for one in DASHBOARDS:
        assert one["title"] in page
        assert f"{len(one['panels'])} panels" in page
