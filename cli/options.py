"""What options of several commands have in common: kinds of values, and asking first."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
"""That is there."""
NEW_FILE: Final = click.Path(dir_okay=False, path_type=Path)
"""That is written; it may be there."""
FOLDER: Final = click.Path(file_okay=False, path_type=Path)
"""That is made where it is missing."""
PORT: Final = click.IntRange(0, 65_535)
"""0: any that is free."""
KNOWN_FOLDER: Final = click.Path(exists=True, file_okay=False, path_type=Path)
"""That is there."""

yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask first, in a terminal.")


def ask_first(question: str, *, yes: bool) -> None:
    """Before what cannot be taken back. Programs have no terminal and are not asked.

    Raises:
        ClickException: the answer is no.
    """
    if not yes and sys.stdin.isatty() and not click.confirm(question, err=True):
        raise click.ClickException("nothing was done")


def refuse_typed(names: Sequence[str], why: str) -> None:
    """Nothing that somebody typed is left out silently. Raises UsageError: one of these was."""
    ctx = click.get_current_context()
    for name in names:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} {why}")
