"""`train`: make the versions of the retrieval model that the demo releases."""

from __future__ import annotations

from pathlib import Path

import click

from cli.output import is_data, output_option, print_data
from mlops.training.linear_adapter import prepare_demo_models


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var/models"),
    show_default=True,
    help="Folder of the versions.",
)
@output_option
def train(out: Path, output: str) -> None:
    """Train the demo's model versions into OUT (kept if they are there already)."""
    versions = prepare_demo_models(out)
    if is_data(output):
        print_data(output, {version: str(path) for version, path in versions.items()})
        return
    for version, path in versions.items():
        click.echo(f"{version}\t{path}")
