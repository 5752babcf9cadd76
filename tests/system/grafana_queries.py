"""What Grafana does to a query before it asks: macros and variables, as its plugins expand them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

DASHBOARDS = Path(__file__).resolve().parents[2] / "grafana" / "dashboards"


@dataclass(frozen=True, slots=True)
class Asked:
    """One query of one panel."""

    panel: str
    source: str
    text: str
    """With macros and variables."""
    dashboard: str = ""
    """Its uid."""
    number: int = 0
    """The panel's; 0 for annotations."""
    legend: str = ""
    is_instant: bool = False
    """Of Prometheus: only the last values."""
    is_series: bool = False
    """Whether SQL gives a column `time`, to be drawn over it."""


def queries(*sources: str) -> list[Asked]:
    """Of every panel and annotation that asks one of these data sources."""
    found = []
    for dashboard in dashboards():
        annotations = dashboard["annotations"].get("list", [])
        targets: list[tuple[str, int, Any]] = [(a["name"], 0, a["target"]) for a in annotations]
        targets += [
            (panel["title"], panel["id"], target)
            for panel in dashboard["panels"]
            for target in panel["targets"]
        ]
        found += [
            _asked(dashboard, title, number, target)
            for title, number, target in targets
            if target["datasource"]["uid"] in sources
        ]
    return found


def dashboards() -> list[dict[str, Any]]:
    """As they are checked in."""
    return [json.loads(path.read_bytes()) for path in sorted(DASHBOARDS.glob("*.json"))]


def _asked(dashboard: dict[str, Any], title: str, number: int, target: dict[str, Any]) -> Asked:
    return Asked(
        panel=f"{dashboard['title']}: {title} {target['refId']}",
        source=target["datasource"]["uid"],
        text=target.get("rawSql") or target["expr"],
        dashboard=dashboard["uid"],
        number=number,
        legend=target.get("legendFormat", ""),
        is_instant=target.get("instant", False),
        is_series=target.get("format") in (0, "time_series"),
    )


def promql(text: str, variables: dict[str, str]) -> str:
    for name, value in variables.items():
        text = text.replace(f"${name}", value)
    return text


def clickhouse_sql(
    text: str, start_s: int, end_s: int, step_s: int, variables: dict[str, str]
) -> str:
    for name, value in variables.items():
        text = text.replace(f"${{{name}:singlequote}}", f"'{value}'")
    text = re.sub(
        r"\$__timeFilter\(([^()]*)\)",
        rf"(\1 >= toDateTime({start_s}) AND \1 <= toDateTime({end_s}))",
        text,
    )
    text = re.sub(
        r"\$__timeInterval\(([^()]*)\)",
        rf"toStartOfInterval(toDateTime(\1), INTERVAL {step_s} second)",
        text,
    )
    return _complete(text.replace("$__fromTime", f"toDateTime({start_s})"))


def postgres_sql(text: str, start_s: int, end_s: int) -> str:
    start, end = (datetime.fromtimestamp(s, UTC).isoformat() for s in (start_s, end_s))
    text = re.sub(r"\$__timeFilter\(([^()]*)\)", rf"\1 BETWEEN '{start}' AND '{end}'", text)
    text = re.sub(r"\$__unixEpochFilter\(([^()]*)\)", rf"\1 >= {start_s} AND \1 <= {end_s}", text)
    text = re.sub(
        r"\$__timeGroupAlias\(([^(),]*), *'1h'\)",
        r'floor(extract(epoch from \1)/3600)*3600 AS "time"',
        text,
    )
    return _complete(text)


def _complete(text: str) -> str:
    assert "$" not in text, f"a macro or variable that is not known, or that has brackets: {text}"
    return text
