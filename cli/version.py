"""What `--version` prints."""

from __future__ import annotations

import click

from mlops.service.version import PACKAGE, program_version


def show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    """Print it and end."""
    if value and not ctx.resilient_parsing:
        click.echo(f"{PACKAGE} {program_version()}")
        ctx.exit()
