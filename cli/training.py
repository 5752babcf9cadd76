"""`train`: make the versions of the retrieval model that the demo releases."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options import FOLDER
from cli.output import dry_run_option, is_data, print_data, prints
from mlops.training.linear_adapter import demo_model_paths, prepare_demo_models


@click.command()
@click.option(
    "--out",
    type=FOLDER,
    default=Path("var/models"),
    show_default=True,
    help="Folder of the versions.",
)
@dry_run_option
@prints(dict[str, str])
def train(out: Path, output: str, *, dry_run: bool) -> None:
    """Train the demo's model versions into OUT (kept if they are there already)."""
    versions = demo_model_paths(out) if dry_run else prepare_demo_models(out)
    if is_data(output):
        print_data(output, {version: str(path) for version, path in versions.items()})
        return
    for version, path in versions.items():
        would = f"\tdry run: {'is there' if path.is_dir() else 'would be trained'}"
        click.echo(f"{version}\t{path}" + (would if dry_run else ""))
