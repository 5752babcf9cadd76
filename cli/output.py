"""How an answer is printed: `-o text|wide|json|yaml`, tables, and what a dry run says.

Text is for people and may change. The fields of JSON and YAML only ever get more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import click
import yaml

_DATA: Final = ("json", "yaml")
_COLUMN_GAP: Final = "   "

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "wide", *_DATA]),
    default="text",
    show_default=True,
    help="How to print the answer; `wide` has further columns where there is a table.",
)

dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say what would be done, having checked it, and do nothing."
)


def is_data(output: str) -> bool:
    """Whether a program reads it."""
    return output in _DATA


def print_data(output: str, value: object) -> None:
    """Print one value, built of what JSON knows; other things as their text."""
    if output == "yaml":
        plain = json.loads(json.dumps(value, default=str))
        click.echo(yaml.safe_dump(plain, sort_keys=False), nl=False)
    else:
        click.echo(json.dumps(value, indent=2, default=str))


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
        click.echo(json.dumps(value, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns in capitals, aligned by spaces; every row has as many cells as there are columns."""
    lines = [tuple(column.upper() for column in columns), *map(tuple, rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo(_COLUMN_GAP.join(cells).rstrip())
