"""Every query of a dashboard or a rule names metrics that are made here, with labels they have.

What is made is asked of the collectors themselves. Prometheus answers a misspelt label with
nothing, and nothing looks like health.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from agent.metrics import Metrics as AgentMetrics
from gateway.counts import Counts
from gateway.metrics import Metrics as GatewayMetrics
from gateway.plans import PlanBook
from gateway.recorder.completeness import CompletenessGauge
from gateway.recorder.metrics import RecorderMetrics
from mlops.feature_store.completeness import Completeness

ROOT = Path(__file__).resolve().parents[2]
OF_A_TARGET = {"instance", "job"}
"""Given to every series by Prometheus itself."""
OTHERS = re.compile(r"(?:node|alertmanager|process)_\w+|up|ALERTS")
"""Made by programs that are not ours."""
WORDS = {
    "sum", "max", "min", "avg", "count", "rate", "increase", "histogram_quantile", "label_replace",
    "vector", "absent", "predict_linear", "by", "on", "or", "and", "unless", "offset", "group_left",
    "label_values",
}  # fmt: skip
SUFFIXES = {
    "gauge": ("",),
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
}


class Crew:
    restarts: Sequence[int] = ()
    members: Mapping[int, Any] = {}


async def nothing() -> tuple[Completeness, ...]:
    return ()


def made() -> dict[str, set[str]]:
    """Names of series that our processes make, and the labels of each."""
    registry = CollectorRegistry()
    CompletenessGauge(nothing, registry)
    recorder = RecorderMetrics(*[lambda: 0.0] * 4).registry
    families: list[Any] = list(
        GatewayMetrics(PlanBook(), Crew(), lambda: 0.0)._collect(Counts())  # type: ignore[arg-type]
    )
    for one in (AgentMetrics().registry, recorder, registry):
        families += list(one._collector_to_names)
    found = {}
    for family in families:
        name, kind = getattr(family, "name", None) or family._name, family_type(family)
        for suffix in SUFFIXES[kind]:
            more = {"le"} if suffix == "_bucket" else set()
            found[name + suffix] = {*family._labelnames, *more}
    return found


def family_type(family: Any) -> str:
    return str(getattr(family, "type", None) or family._type)


def recorded() -> dict[str, set[str]]:
    """Names and labels of the recording rules."""
    (group,) = yaml.safe_load((ROOT / "prometheus/rules/recording.yml").read_text())["groups"]
    return {
        rule["record"]: set(re.split(r",\s*", re.search(r"by \(([^)]*)\)", rule["expr"])[1]))  # type: ignore[index]
        for rule in group["rules"]
    }


def expressions() -> Iterator[tuple[str, str]]:
    for name in ("alerts", "recording"):
        (group,) = yaml.safe_load((ROOT / f"prometheus/rules/{name}.yml").read_text())["groups"]
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    for path in sorted((ROOT / "grafana/dashboards").glob("*.json")):
        dashboard = json.loads(path.read_text())
        for variable in dashboard.get("templating", {}).get("list", []):
            if "label_values(" in str(variable["query"]):
                yield f"{path.stem}: ${variable['name']}", str(variable["query"])
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                if "expr" in target:
                    legend = " ".join(f"by ({one})" for one in labels_of_legend(target))
                    yield f"{path.stem}: {panel['title']}", f"{target['expr']} {legend}"


def labels_of_legend(target: Mapping[str, Any]) -> list[str]:
    return re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", ""))


SERIES = made() | recorded()
EXPRESSIONS = list(expressions())


def selectors(expression: str) -> Iterable[tuple[str, set[str]]]:
    """Names in an expression, each with the labels that it is matched by."""
    grouped = re.sub(r"\b(?:by|on|group_left) ?\([^)]*\)", " ", expression)
    bare = re.sub(r'"[^"]*"', '""', grouped)
    bare = re.sub(r"\[[^]]*\]|\$\w+", " ", bare)
    for found in re.finditer(r"([a-zA-Z_][\w:]*)\s*(\{[^}]*\})?", bare):
        if found[1] not in WORDS and not re.fullmatch(r"\d\w*|[smhd]", found[1]):
            yield found[1], set(re.findall(r"(\w+)\s*[=!]", found[2] or ""))


def wrong(expression: str) -> list[str]:
    known: set[str] = set(OF_A_TARGET) | set(re.findall(r'label_replace\([^"]*"(\w+)"', expression))
    found = []
    variable = re.search(r"label_values\((.*), (\w+)\)", expression)
    text = f"{variable[1]} by ({variable[2]})" if variable else expression
    for name, labels in selectors(text):
        if OTHERS.fullmatch(name):
            return []
        if name not in SERIES:
            found.append(f"nobody makes {name}")
            continue
        known |= SERIES[name]
        found += [f"{name} has no label {one}" for one in labels - SERIES[name] - OF_A_TARGET]
    for group in re.findall(r"\b(?:by|on) ?\(([^)]*)\)", text):
        found += [f"no label {one} here" for one in re.findall(r"\w+", group) if one not in known]
    return found


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[one for one, _ in EXPRESSIONS])
def test_a_query_names_what_is_there(where: str, expression: str) -> None:
    assert wrong(expression) == [], where


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("sum(rate(recorder_row_total[1m]))", "nobody makes recorder_row_total"),
        ('agent_release_verdict{verdct="invalid"} == 1', "has no label verdct"),
        ("max by (rout) (gateway_lease_lapsed)", "no label rout here"),
        ('route_arm:http_errors:ratio_rate5m{version="1"}', "has no label version"),
        ("histogram_quantile(0.9, gateway_overhead_seconds{arm='x'})", "nobody makes"),
        ("label_values(gateway_plan_generation, arm)", "no label arm here"),
    ],
)
def test_a_wrong_one_would_be_found(expression: str, complaint: str) -> None:
    assert any(complaint in one for one in wrong(expression))


def test_everything_is_looked_at() -> None:
    assert len(EXPRESSIONS) > 70
    assert len(SERIES) > 60
