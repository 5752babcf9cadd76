"""`validate -f FILE`: check what gateway, agent or a release would read, starting nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from agent.policy_file import PolicyError, load_policy
from agent.settings import SettingsError
from agent.settings import load as load_agent
from cli.options import FILE
from cli.output import is_data, print_data, prints
from cli.shapes import CheckedFile
from gateway.config import ConfigError, load

KIND_OF_KEY: Final[Mapping[str, str]] = {
    "routes": "gateway",
    "gateways": "agent",
    "memory": "agent",
} | dict.fromkeys(
    ("steps", "checks", "bake", "alpha", "beta", "grace", "dwell", "holdback", "pairs"), "policy"
)


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
    help="What FILE is; else told by its keys: `routes`, `gateways`, `steps` or `checks`.",
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
    """By the first key that only one kind has: a file that is no YAML yet has a kind, too."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if kind := KIND_OF_KEY.get(line.partition(":")[0]):
            return kind
    return "gateway"
