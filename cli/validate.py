"""`validate -f FILE`: check what gateway, agent or a release would read, starting nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from agent.policy_file import PolicyError, load_policy
from agent.settings import SettingsError
from agent.settings import load as load_agent
from cli.options import FILE
from cli.output import is_data, print_data, prints
from cli.shapes import CheckedFile
from gateway.config import ConfigError, load


@click.command()
@click.option(
    "-f",
    "--file",
    "path",
    type=FILE,
    required=True,
    help="The file to check.",
)
@click.option(
    "--kind",
    type=click.Choice(["gateway", "agent", "policy"]),
    help="What FILE is; else told by its keys: `steps`, `gateways` or `routes`.",
)
@prints(CheckedFile)
def validate(path: Path, kind: str | None, output: str) -> None:
    """Check FILE; exit code 1 and the reason if it would be refused."""
    kind = kind or _kind_by_keys(path)
    problem = ""
    environ = os.environ  # noqa: TID251  files name tokens that stand there
    try:
        match kind:
            case "policy":
                load_policy(path)
            case "agent":
                load_agent(path, environ)
            case _:
                load(path, environ)
    except (ConfigError, PolicyError, SettingsError) as error:
        problem = str(error)
    if is_data(output):
        checked = CheckedFile(file=str(path), kind=kind, valid=not problem, problem=problem)
        print_data(output, checked)
    else:
        click.echo(problem or f"{path}: a valid {kind} file", err=bool(problem))
    sys.exit(1 if problem else 0)


def _kind_by_keys(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for key, kind in (("steps:", "policy"), ("gateways:", "agent")):
        if any(line.startswith(key) for line in lines):
            return kind
    return "gateway"
