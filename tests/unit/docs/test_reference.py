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


@pytest.mark.parametrize("metric", ["gateway_share_ratio", "recorder_rows", "agent_leader"])
def test_metrics_of_every_process_are_there(metric: str) -> None:
    assert f"`{metric}`" in PAGES["reference/metrics.md"]


def test_metrics_that_the_pages_name_exist() -> None:
    """A page that speaks of a metric which is gone misleads at the worst time."""
    known = set(re.findall(r"`([a-z_]+)`", PAGES["reference/metrics.md"]))
    for page in ("gateway.md", "recorder.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for name in re.findall(r"`((?:gateway|recorder)_[a-z_]+)(?:\{[^}]*\})?`", text):
            bare = name.removesuffix("_total")
            assert bare in known, f"{page} names {name}"
