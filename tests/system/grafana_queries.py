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


def queries(*sources: str) -> list[Asked]:
    """Of every panel and annotation that asks one of these data sources."""
    found = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        annotations = dashboard["annotations"].get("list", [])
        targets: list[tuple[str, Any]] = [(one["name"], one["target"]) for one in annotations]
        targets += [(one["title"], t) for one in dashboard["panels"] for t in one["targets"]]
        for title, target in targets:
            source = target["datasource"]["uid"]
            if source in sources:
                name = f"{dashboard['title']}: {title} {target['refId']}"
                found.append(Asked(name, source, target.get("rawSql") or target["expr"]))
    return found


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
