"""Commands of other tools are answered with ours, and ours are there."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner

from cli.main import ELSEWHERE, main


@pytest.mark.parametrize("word", ELSEWHERE)
def test_a_command_of_another_tool_is_answered_with_ours(word: str) -> None:
    result = CliRunner().invoke(main, [word, "rag"])
    assert result.exit_code == 2
    assert f"No such command {word!r}. Here it is {ELSEWHERE[word]}." in result.output


@pytest.mark.parametrize("said", ELSEWHERE.values())
def test_what_it_is_answered_with_is_a_command(said: str) -> None:
    for line in re.findall(r"`rag-mlops ([^`]*)`", said):
        command: click.Command | None = main
        for name in line.split():
            if not isinstance(command, click.Group) or name.startswith("-"):
                break
            command = command.get_command(click.Context(command), name)
        assert command is not None, line
