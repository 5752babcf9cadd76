"""What programs read stays readable: no field is renamed, taken away or of another type."""

from __future__ import annotations

import click
import pytest

from cli.output import shape_of
from scripts.output_shapes import KEPT, commands, lines

KNOWN = KEPT.read_text(encoding="utf-8").splitlines()


def test_every_field_that_was_ever_printed_is_still_there() -> None:
    gone = set(KNOWN) - set(lines())
    assert not gone, "a program may read these; add a field beside instead"


def test_what_is_new_is_kept_from_now_on() -> None:
    new = set(lines()) - set(KNOWN)
    assert not new, "`python -m scripts.output_shapes` keeps these"


@pytest.mark.parametrize(("path", "command"), list(commands()))
def test_every_command_that_prints_for_programs_says_what(
    path: str, command: click.Command
) -> None:
    has_output = any("--output" in one.opts for one in command.params)
    assert has_output is (shape_of(command) is not None), path
