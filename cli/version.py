"""Which version of the program this is."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

PACKAGE = "rag-mlops"


def program_version() -> str:
    """Of the installed package; of a checkout or an image, what its pyproject.toml says."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])


def show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    """Print it and end."""
    if value and not ctx.resilient_parsing:
        click.echo(f"{PACKAGE} {program_version()}")
        ctx.exit()
