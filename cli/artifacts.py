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

from cli.output import dry_run_option, is_data, output_option, print_data
from mlops.artifact_store import ArtifactError, MinIOArtifactStore
from mlops.artifact_store.bucket import lifecycle_rules
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
@dry_run_option
def init(object_lock: bool, *, dry_run: bool) -> None:
    """Make the bucket, if it is missing."""
    with _told() as store:
        if dry_run:
            what = "is there" if store.bucket.exists() else "would be made"
            click.echo(f"dry run: bucket {store.bucket.name} {what}")
            return
        made = store.bucket.prepare(object_lock=object_lock)
    click.echo(f"bucket {store.bucket.name} {'made' if made else 'was there'}")


@artifacts.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.argument("model")
@click.argument("version")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="Kept with the version.")
@click.option("--lock-days", type=click.IntRange(1), help="Let nobody delete it for so long.")
@dry_run_option
@output_option
def upload(
    path: Path,
    model: str,
    version: str,
    metadata: tuple[str, ...],
    lock_days: int | None,
    output: str,
    *,
    dry_run: bool,
) -> None:
    """Store the file or folder PATH as VERSION of MODEL; a version is never overwritten."""
    if dry_run:
        with _told() as store:
            _pairs(metadata)
            planned = store.check_upload(path, model, version)
        what = "is stored" if planned.is_stored else "would be stored"
        sentence = f"{planned.files} files, {planned.size_bytes:,} bytes"
        _show(msgspec.to_builtins(planned), f"dry run: {planned.uri} {what}: {sentence}", output)
        return
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
@dry_run_option
def download(model: str, version: str, path: Path, *, dry_run: bool) -> None:
    """Bring VERSION of MODEL to PATH; every byte is checked."""
    if dry_run:
        with _told() as store:
            found = store.manifest(model, version)
        click.echo(f"dry run: {path} would get {len(found.files)} files, {found.size:,} bytes")
        return
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
@click.argument("model")
@click.argument("version")
@dry_run_option
def delete(model: str, version: str, *, dry_run: bool) -> None:
    """Forget VERSION of MODEL; `gc` frees what no other version shares with it."""
    with _told() as store:
        found = store.manifest(model, version)
        if not dry_run:
            store.delete_version(model, version)
    said = "dry run: would delete" if dry_run else "deleted"
    click.echo(f"{said} {model} {version}: {len(found.files)} files, {found.size:,} bytes")


@artifacts.command()
@dry_run_option
def gc(*, dry_run: bool) -> None:
    """Delete what no version refers to and is a day old."""
    with _told() as store:
        if dry_run:
            click.echo(f"dry run: {len(store.garbage())} chunks would be deleted")
            return
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
@dry_run_option
def apply(noncurrent_days: int, *, dry_run: bool) -> None:
    """Set the rules: replaced versions of objects, unfinished uploads, temporary files."""
    with _told() as store:
        if dry_run:
            for sentence in store.bucket.lifecycle() or ["no rules"]:
                click.echo(f"now: {sentence}")
            for sentence in lifecycle_rules(noncurrent_days):
                click.echo(f"dry run: {sentence}")
            return
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
