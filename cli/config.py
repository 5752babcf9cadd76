"""`config`: the effective settings, and where each came from."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from cli.output import is_data, print_data, prints
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
    table = Table("setting", "value", "from", "meaning", box=None)
    for one in found.values():
        table.add_row(one.setting.name, one.shown, str(one.origin), one.setting.meaning)
    Console().print(table)
