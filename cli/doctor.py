"""`doctor`: look at every part, and say how to mend what is wrong."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path
from textwrap import shorten

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.connect import connection, has_context, run
from cli.exits import EXIT_FAILED
from cli.margins import suggested
from cli.output import is_data, print_data, prints
from mlops.config import MlopsConfig, read_config
from mlops.doctor.checks import examine
from mlops.doctor.findings import Finding, State

MAX_CELL_CHARS = 160
"""Of what was found, in the table: a page of HTML says no more. `-o json` has all of it."""
_COLOURS = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "red"}


@click.command()
@click.option(
    "--spool",
    type=click.Path(path_type=Path),
    default=Path("var"),
    show_default=True,
    help="Where the gateway spools: its disk is looked at.",
)
@prints(list[Finding])
def doctor(spool: Path, output: str) -> None:
    """Check services, credentials, schema, clocks and disk, and say how to mend what is wrong.

    Also suggests the margins of each route's checks from the last day of stable's own noise.

    Exit code 1 where something has failed.
    """
    findings = run(_examined(_in_context(read_config()), spool))
    if is_data(output):
        print_data(output, findings)
    else:
        _print(findings)
    sys.exit(EXIT_FAILED if any(one.state is State.FAILED for one in findings) else 0)


def _in_context(config: MlopsConfig) -> MlopsConfig:
    """With gateways and agent as the other commands find them, where a context says where."""
    if not has_context():
        return config
    where = connection()
    places = replace(
        config.places,
        gateway_admin_urls=where.gateways,
        gateway_token=where.gateway_token,
        agent_url=where.agent,
        agent_token=where.agent_token,
        tls=where.tls,
    )
    return replace(config, places=places)


async def _examined(config: MlopsConfig, spool: Path) -> list[Finding]:
    now_s = int(time.time())  # noqa: TID251  the log's seconds are of the wall clock
    found = await asyncio.gather(examine(config, spool), suggested(config.clickhouse, now_s))
    return [finding for findings in found for finding in findings]


def _print(findings: list[Finding]) -> None:
    console = Console()
    if not console.is_terminal:  # a finding a line, for logs and grep
        for one in findings:
            mend = f" -> {one.mend}" if one.mend else ""
            click.echo(f"{one.state}  {one.part}: {' '.join(one.what.split())}{mend}")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", "part", "what was found", "how to mend it"):
        table.add_column(column, overflow="fold")
    for one in findings:
        found = shorten(one.what, MAX_CELL_CHARS, placeholder="…")
        state = Text(one.state, style=_COLOURS[one.state])
        table.add_row(state, Text(one.part), Text(found), Text(one.mend))
    console.print(table)
