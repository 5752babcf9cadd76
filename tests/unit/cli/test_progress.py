"""How far long work is: a bar, lines, or nothing."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from cli.progress import LINE_EVERY_S, Lines, shown


def told(output: str, *, terminal: bool, counts_bytes: bool = False) -> str:
    console = Console(file=StringIO(), force_terminal=terminal, width=80, color_system=None)
    with shown(output, counts_bytes=counts_bytes, console=console) as tell:
        tell("days archived", 1, 4)
        tell("rows of this day", 10, 20)
        tell("days archived", 4, 4)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_terminal_gets_a_bar_for_each_kind_of_work() -> None:
    text = told("text", terminal=True)
    assert "days archived" in text
    assert "4/4" in text
    assert "10/20" in text


def test_bytes_are_shown_as_bytes() -> None:
    assert "4/4 bytes" in told("wide", terminal=True, counts_bytes=True)


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_a_program_gets_nothing_also_on_a_terminal(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(output, terminal=True) == ""
    assert capsys.readouterr() == ("", "")


def test_short_work_outside_a_terminal_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert told("text", terminal=False) == ""
    assert capsys.readouterr() == ("", "")


def test_long_work_outside_a_terminal_gets_a_line_now_and_then() -> None:
    now_s = 0.0
    said: list[str] = []
    tell = Lines(said.append, lambda: now_s)
    for done in range(301):
        now_s = float(done) / 10
        tell("rows", done * 100, 30_000)
    assert LINE_EVERY_S == 10
    assert said == [f"rows: {done} of 30,000" for done in ("10,000", "20,000", "30,000")]
