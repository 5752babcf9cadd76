"""How an answer is printed: `-o text|wide|json|yaml`, tables, and what a dry run says.

Text is for people and may change. The fields of JSON and YAML only ever get more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click
import msgspec
import yaml

F = TypeVar("F", bound=Callable[..., Any])

_DATA: Final = ("json", "yaml")
_COLUMN_GAP: Final = "   "
_SHAPE: Final = "output_shape"

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be done, having checked it, and do nothing."
)


@dataclass(frozen=True, slots=True)
class OutputShape:
    """What a command prints for programs."""

    kinds: tuple[Any, ...]
    """One of these types, as msgspec takes them."""
    is_stream: bool
    """One such value after another, each a line of JSON or a document of YAML."""


def prints(
    *kinds: Any, is_stream: bool = False, only: Sequence[str] | None = None
) -> Callable[[F], F]:
    """Give a command `-o`, and say what it prints: the reference is made of it.

    `only` names the forms there are, the default first.
    """
    forms = only or ("text", "wide", *_DATA)
    said = "How to print the answer; `wide` has further columns where there is a table."
    option = click.option(
        "-o",
        "--output",
        type=click.Choice(forms),
        default=forms[0],
        show_default=True,
        help=said if only is None else "JSON lines, or YAML documents one after another.",
    )

    def decorate(command: F) -> F:
        vars(command)[_SHAPE] = OutputShape(kinds, is_stream)
        return option(command)

    return decorate


def shape_of(command: click.Command) -> OutputShape | None:
    """What was said with `prints`; None where the command prints nothing for programs."""
    found = vars(command.callback).get(_SHAPE) if command.callback is not None else None
    assert found is None or isinstance(found, OutputShape), "only `prints` sets it"
    return found


def is_data(output: str) -> bool:
    """Whether a program reads it."""
    return output in _DATA


def print_data(output: str, value: object) -> None:
    """Print one value; what JSON does not know is printed as its text."""
    plain = _plain(value)
    if output == "yaml":
        click.echo(yaml.safe_dump(plain, sort_keys=False), nl=False)
    else:
        click.echo(json.dumps(plain, indent=2))


def print_answer(output: str, value: object, sentence: str) -> None:
    """The value for a program, or the same as a sentence."""
    if is_data(output):
        print_data(output, value)
    else:
        click.echo(sentence)


def print_entry(output: str, value: object) -> None:
    """Print one of many values that come one after another: a JSON line, or a YAML document."""
    if output == "yaml":
        click.echo("---")
        print_data(output, value)
    else:
        click.echo(json.dumps(_plain(value)))


def _plain(value: object) -> Any:
    return msgspec.to_builtins(value, enc_hook=str, str_keys=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns in capitals, aligned by spaces; every row has as many cells as there are columns."""
    lines = [tuple(column.upper() for column in columns), *map(tuple, rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo(_COLUMN_GAP.join(cells).rstrip())
