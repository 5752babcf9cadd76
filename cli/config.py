"""`config`: the effective settings, and where each came from."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.output import is_data, print_data, print_table, prints
from cli.shapes import EffectiveSetting
from mlops.config.reading import config_of, effective


@click.command()
@prints(dict[str, EffectiveSetting])
def config(output: str) -> None:
    """Print every MLOPS_* setting with its value and where it came from; secrets are not shown.

    Exit code 1 where a setting is unknown or does not fit.
    """
    found = effective()
    config_of(found)
    if is_data(output):
        print_data(
            output,
            {
                one.setting.name: EffectiveSetting(value=one.shown, origin=str(one.origin))
                for one in found.values()
            },
        )
        return
    columns = ("setting", "value", "from", "meaning")
    rows = [
        (one.setting.name, one.shown, str(one.origin), one.setting.meaning)
        for one in found.values()
    ]
    console = Console()
    if not console.is_terminal:
        print_table(columns, rows)  # a setting a line, for grep
        return
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*map(Text, row))  # as it is: `[` begins no style
    console.print(table)
