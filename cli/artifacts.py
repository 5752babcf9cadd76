"""`artifacts`: model files in the S3 bucket of MLOPS_MINIO_*."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from cli.output import is_data, output_option, print_data
from mlops.artifact_store import ArtifactError, MinIOArtifactStore
from mlops.config import ConfigError


@contextmanager
def _told() -> Iterator[MinIOArtifactStore]:
    """The store of the environment; its failures as sentences."""
    try:
        yield MinIOArtifactStore()
    except (ArtifactError, ConfigError, FileNotFoundError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr; nothing where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@click.group()
def artifacts() -> None:
    """Store, fetch and list model files."""


@artifacts.command()
@click.option("--object-lock", is_flag=True, help="Make the bucket so that versions can be locked.")
def init(object_lock: bool) -> None:
    """Make the bucket, if it is missing."""
    with _told() as store:
        made = store.bucket.prepare(object_lock=object_lock)
    click.echo(f"bucket {store.bucket.name} {'made' if made else 'was there'}")


@artifacts.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.argument("model")
@click.argument("version")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="Kept with the version.")
@click.option("--lock-days", type=click.IntRange(1), help="Let nobody delete it for so long.")
@output_option
def upload(
    path: Path,
    model: str,
    version: str,
    metadata: tuple[str, ...],
    lock_days: int | None,
    output: str,
) -> None:
    """Store the file or folder PATH as VERSION of MODEL; a version is never overwritten."""
    with _told() as store, _bar(f"{model} {version}") as progress:
        uri = store.upload_model(
            path,
            model,
            version,
            _pairs(metadata),
            lock_for=None if lock_days is None else timedelta(days=lock_days),
            progress=progress,
        )
    _show({"uri": uri}, uri, output)


@artifacts.command()
@click.argument("model")
@click.argument("version")
@click.argument("path", type=click.Path(path_type=Path))
def download(model: str, version: str, path: Path) -> None:
    """Bring VERSION of MODEL to PATH; every byte is checked."""
    with _told() as store, _bar(f"{model} {version}") as progress:
        store.download_model(model, version, path, progress=progress)
    click.echo(str(path))


@artifacts.command("list")
@click.argument("model", required=False)
@output_option
def list_models(model: str | None, output: str) -> None:
    """Versions that are stored, of MODEL or of all models; newest first."""
    with _told() as store:
        found = store.list_models(model)
    if is_data(output):
        print_data(output, msgspec.to_builtins(found))
        return
    for one in found:
        click.echo(
            f"{one.model_name}  {one.version}  {one.size_bytes:,} bytes  {one.created_at:%F %T}"
        )


@artifacts.command()
@click.argument("model")
@click.argument("version")
@click.argument("file")
@click.option(
    "--hours",
    type=click.FloatRange(0.01, 168),
    default=1.0,
    show_default=True,
    help="How long the address works.",
)
def presign(model: str, version: str, file: str, hours: float) -> None:
    """Addresses from which anybody can read FILE for so long; joined in order they are the file."""
    with _told() as store:
        for url in store.presigned_urls(model, version, file, timedelta(hours=hours)):
            click.echo(url)


@artifacts.command()
def gc() -> None:
    """Delete what no version refers to and is a day old."""
    with _told() as store:
        click.echo(f"{store.collect_garbage()} chunks deleted")


@artifacts.group()
def lifecycle() -> None:
    """What the server itself forgets."""


@lifecycle.command()
@click.option(
    "--noncurrent-days",
    type=click.IntRange(1),
    default=30,
    show_default=True,
    help="Days that an overwritten object is kept.",
)
def apply(noncurrent_days: int) -> None:
    """Set the rules: replaced versions of objects, unfinished uploads, temporary files."""
    with _told() as store:
        store.bucket.set_lifecycle(noncurrent_days)
        _print_rules(store)


@lifecycle.command()
def show() -> None:
    """Print the rules in force."""
    with _told() as store:
        _print_rules(store)


def _print_rules(store: MinIOArtifactStore) -> None:
    for sentence in store.bucket.lifecycle() or ["no rules"]:
        click.echo(sentence)


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"--metadata {text!r}: expected NAME=VALUE")
        pairs[name] = value
    return pairs


def _show(value: dict[str, Any], sentence: str, output: str) -> None:
    if is_data(output):
        print_data(output, value)
    else:
        click.echo(sentence)
