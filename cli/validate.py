"""`validate -f FILE`: check a gateway file or a policy without starting anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from agent.policy_file import PolicyError, load_policy
from cli.output import is_data, print_data, prints
from cli.shapes import CheckedFile
from gateway.config import ConfigError, load


@click.command()
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The file to check.",
)
@click.option(
    "--kind",
    type=click.Choice(["gateway", "policy"]),
    help="What FILE is; else told by its keys: a policy has `steps`.",
)
@prints(CheckedFile)
def validate(path: Path, kind: str | None, output: str) -> None:
    """Check FILE; exit code 1 and the reason if it would be refused."""
    kind = kind or ("policy" if _looks_like_policy(path) else "gateway")
    problem = ""
    try:
        if kind == "policy":
            load_policy(path)
        else:
            load(path, os.environ)  # noqa: TID251  tokens are named in the file
    except (ConfigError, PolicyError) as error:
        problem = str(error)
    if is_data(output):
        checked = CheckedFile(file=str(path), kind=kind, valid=not problem, problem=problem)
        print_data(output, checked)
    else:
        click.echo(problem or f"{path}: a valid {kind} file", err=bool(problem))
    sys.exit(1 if problem else 0)


def _looks_like_policy(path: Path) -> bool:
    return any(line.startswith("steps:") for line in path.read_text(encoding="utf-8").splitlines())
