"""What shells and terminals get: completion scripts, and no colour where none is wanted."""

from __future__ import annotations

import re
import tomllib
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from cli.live import ReleaseView
from cli.main import main
from mlops.contracts.release import ReleaseStatus

ROOT = Path(__file__).resolve().parents[3]
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]")


def test_a_checkout_knows_its_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    said = CliRunner().invoke(main, ["--version"])
    assert said.output == f"rag-mlops {project['version']}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_asks_this_program(shell: str) -> None:
    script = CliRunner().invoke(main, ["completion", shell])
    assert script.exit_code == 0
    assert f"_RAG_MLOPS_COMPLETE={shell}_complete" in script.output


def test_bash_is_told_commands_and_options() -> None:
    environment = {"_RAG_MLOPS_COMPLETE": "bash_complete", "COMP_WORDS": "rag-mlops roll",
                   "COMP_CWORD": "1"}  # fmt: skip
    found = CliRunner().invoke(main, [], env=environment, prog_name="rag-mlops")
    assert "plain,rollback" in found.output
    environment |= {"COMP_WORDS": "rag-mlops rollback --dry", "COMP_CWORD": "2"}
    found = CliRunner().invoke(main, [], env=environment, prog_name="rag-mlops")
    assert "plain,--dry-run" in found.output


@pytest.mark.parametrize("no_color", [True, False])
def test_no_color_takes_the_colours_out_of_the_live_view(
    no_color: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    view = ReleaseView()
    view.show(
        ReleaseStatus(
            id="r", route="rag", version="2", stable="1", phase="progressing", weight=50.0,
            verdict="healthy", step=1, steps=3, generation=4, reason="", reasons=(),
        )
    )  # fmt: skip
    out = StringIO()
    Console(file=out, force_terminal=True, width=100).print(view.render())
    assert "weight 50 %" in out.getvalue()
    assert bool(COLOUR.search(out.getvalue())) is not no_color
