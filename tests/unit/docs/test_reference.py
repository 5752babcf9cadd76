"""The reference that is made from the code says something about everything, and misses nothing."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from cli.main import SECTIONS
from mlops.config.names import SETTINGS
from mlops.feature_store.schema import ROW_TYPES
from scripts.reference import commands, pages

ROOT = Path(__file__).resolve().parents[3]
PAGES = pages()
DASHBOARDS = "".join(
    path.read_text(encoding="utf-8") for path in (ROOT / "grafana/dashboards").glob("*.json")
)


@pytest.mark.parametrize(("path", "command"), [(path, command) for path, command, _ in commands()])
def test_every_option_of_every_command_says_what_it_does(path: str, command: click.Command) -> None:
    silent = [
        option.opts[-1]
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert not silent, f"rag-mlops {path}"


def test_every_command_setting_and_column_is_there() -> None:
    for name in (name for names in SECTIONS.values() for name in names):
        assert f"\n## {name}\n" in PAGES["reference/cli.md"]
    for setting in SETTINGS:
        assert setting.meaning
        assert f"`{setting.name}`" in PAGES["reference/settings.md"]
    for column in ROW_TYPES:
        assert f"`{column}`" in PAGES["reference/schema.md"]


def test_no_secret_has_a_default() -> None:
    assert not [one.name for one in SETTINGS if one.secret and one.default]


@pytest.mark.parametrize(
    "metric",
    [
        "gateway_share_ratio",
        "recorder_rows",
        "log_completeness_ratio",
        "agent_leader",
        "model_server_waiting_texts",
    ],
)
def test_metrics_of_every_process_are_there(metric: str) -> None:
    assert f"`{metric}`" in PAGES["reference/metrics.md"]


NO_METRICS = {"log_completeness", "spool_full", "gateway_file"}
"""A table, a reason and a target of `make fuzz`, whose names begin as metrics do."""


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_metrics_and_panels_that_a_page_names_exist(page: Path) -> None:
    """A page that speaks of what is gone misleads at the worst time."""
    text = page.read_text(encoding="utf-8")
    known = set(re.findall(r"`([a-z_]+)`", PAGES["reference/metrics.md"])) | NO_METRICS
    named = re.findall(
        r"`((?:gateway|recorder|agent|spool|log|model_server)_[a-z_]+)(?:\{[^}`]*\})?`", text
    )
    assert {name for name in named if name.removesuffix("_total") not in known} == set()
    panels = re.findall(r"panels? (\*[^*]+\*(?:(?:, | and )\*[^*]+\*)*)", text)
    for title in re.findall(r"\*([^*]+)\*", " ".join(panels)):
        assert f'"title": "{title}"' in DASHBOARDS, title
