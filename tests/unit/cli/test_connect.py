"""Who the command says it is."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from cli.connect import connection, running_stack, user_name


def test_a_command_names_the_user_who_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's name, not one that the environment claims."""
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.setenv("LOGNAME", "somebody")
    name = pwd.getpwuid(os.getuid()).pw_name
    assert connection({}).user == name


def test_a_stack_file_that_is_broken_keeps_nobody_from_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that was full may have left half of it."""
    monkeypatch.chdir(tmp_path)
    file = Path("var/up/stack.json")
    file.parent.mkdir(parents=True)
    file.write_text('{"processes": [', encoding="utf-8")
    assert connection({}).gateways == ("http://127.0.0.1:8001",)
    assert "left out: var/up/stack.json: Input data was truncated" in capsys.readouterr().err
    with pytest.raises(click.ClickException, match=r"var/up/stack\.json"):
        running_stack()


@pytest.mark.parametrize("name", ["agent", "a\nb", "\u00e9"])
def test_a_name_that_would_pass_for_the_agent_or_fits_no_header_is_a_number(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda _: SimpleNamespace(pw_name=name))
    assert user_name() == f"uid {os.getuid()}"


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nameless)
    assert user_name() == f"uid {os.getuid()}"
