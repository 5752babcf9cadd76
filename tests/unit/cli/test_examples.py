"""What the help of each command ends with, and what a misspelt one is told."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli.examples import EXAMPLES
from cli.main import SECTIONS, main
from scripts.output_shapes import commands
from tests.unit.docs.test_commands import parse


@pytest.mark.parametrize(("words", "command"), list(commands()))
def test_the_help_of_each_command_shows_an_example_of_it(
    words: str, command: click.Command
) -> None:
    del command
    said = CliRunner().invoke(main, [*words.split(), "--help"])
    assert said.output.rstrip().endswith(f"Example:\n    rag-mlops {EXAMPLES[words]}")
    assert EXAMPLES[words].startswith(words)


def test_there_is_no_example_of_what_is_gone() -> None:
    assert set(EXAMPLES) == {words for words, _ in commands()}


@pytest.mark.parametrize("line", EXAMPLES.values())
def test_each_example_parses(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("gateway.yaml", "agent.yaml", "policy.yaml", "rows.csv", "rows.parquet"):
        Path(name).touch()
    for version in ("1.1.0", "1.3.0"):
        Path("var/models", version).mkdir(parents=True)
    with CliRunner().isolation():
        parse(main, "rag-mlops", shlex.split(line))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["statu"], "Did you mean status"), (["release", "pasue"], "Did you mean pause")],
)
def test_a_misspelt_command_is_told_what_it_may_have_been(typed: list[str], meant: str) -> None:
    said = CliRunner().invoke(main, typed)
    assert (said.exit_code, meant in said.output) == (2, True)


def test_a_command_like_no_other_is_told_nothing() -> None:
    assert "Did you mean" not in CliRunner().invoke(main, ["xyzzy"]).output


def test_every_command_stands_under_a_heading_of_the_help() -> None:
    said = CliRunner().invoke(main, ["--help"]).output
    for title, names in SECTIONS.items():
        _, _, rest = said.partition(f"\n{title}:\n")
        listed = [line.split()[0] for line in rest.split("\n\n")[0].splitlines()]
        assert listed == list(names)
