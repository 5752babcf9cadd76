"""`artifacts`: model files in the S3 bucket of MLOPS_MINIO_*."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import click

from cli.options import ask_first, yes_option
from cli.output import dry_run_option, is_data, print_answer, print_data, prints
from cli.progress import shown
from cli.shapes import Bucket, DeletedVersion, Downloaded, Garbage, Lifecycle, Uploaded
from mlops.artifact_store import ArtifactError, MinIOArtifactStore
from mlops.artifact_store.bucket import lifecycle_rules
from mlops.artifact_store.store import PlannedUpload, StoredModel
from mlops.config import ConfigError


@contextmanager
def _told() -> Iterator[MinIOArtifactStore]:
    """The store of the environment; what was asked for wrongly is told in a sentence."""
    try:
        yield MinIOArtifactStore()
    except (ArtifactError, ConfigError):
        raise  # told, with its exit code, as every service's is
    except (FileNotFoundError, ValueError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _bytes_shown(what: str, output: str) -> Iterator[Callable[[int, int], None]]:
    with shown(output, counts_bytes=True) as tell:
        yield lambda done, total: tell(what, done, total)


@click.group()
def artifacts() -> None:
    """Store, fetch and list model files."""


@artifacts.command()
@click.option("--object-lock", is_flag=True, help="Make the bucket so that versions can be locked.")
@dry_run_option
@prints(Bucket)
def init(object_lock: bool, output: str, *, dry_run: bool) -> None:
    """Make the bucket, if it is missing."""
    with _told() as store:
        if dry_run:
            made = not store.bucket.exists()
        else:
            made = store.bucket.prepare(object_lock=object_lock)
    name = store.bucket.name
    if dry_run:
        sentence = f"dry run: bucket {name} {'would be made' if made else 'is there'}"
    else:
        sentence = f"bucket {name} {'made' if made else 'was there'}"
    print_answer(output, Bucket(bucket=name, made=made, dry_run=dry_run), sentence)


@artifacts.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.argument("model")
@click.argument("version")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="Kept with the version.")
@click.option("--lock-days", type=click.IntRange(1), help="Let nobody delete it for so long.")
@dry_run_option
@prints(Uploaded, PlannedUpload)
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
        print_answer(
            output,
            planned,
            f"dry run: {planned.uri} {what}: {sentence}",
        )
        return
    with _told() as store, _bytes_shown(f"{model} {version}", output) as progress:
        uri = store.upload_model(
            path,
            model,
            version,
            _pairs(metadata),
            lock_for=None if lock_days is None else timedelta(days=lock_days),
            progress=progress,
        )
    print_answer(output, Uploaded(uri=uri), uri)


@artifacts.command()
@click.argument("model")
@click.argument("version")
@click.argument("path", type=click.Path(path_type=Path))
@dry_run_option
@prints(Downloaded)
def download(model: str, version: str, path: Path, output: str, *, dry_run: bool) -> None:
    """Bring VERSION of MODEL to PATH; every byte is checked."""
    with _told() as store:
        found = store.manifest(model, version)
        if not dry_run:
            with _bytes_shown(f"{model} {version}", output) as progress:
                store.download_model(model, version, path, progress=progress)
    sizes = f"{len(found.files)} files, {found.size:,} bytes"
    print_answer(
        output,
        Downloaded(path=str(path), files=len(found.files), size_bytes=found.size, dry_run=dry_run),
        f"dry run: {path} would get {sizes}" if dry_run else str(path),
    )


@artifacts.command("list")
@click.argument("model", required=False)
@prints(list[StoredModel])
def list_models(model: str | None, output: str) -> None:
    """Versions that are stored, of MODEL or of all models; newest first."""
    with _told() as store:
        found = store.list_models(model)
    if is_data(output):
        print_data(output, found)
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
@prints(list[str])
def presign(model: str, version: str, file: str, hours: float, output: str) -> None:
    """Addresses from which anybody can read FILE for so long; joined in order they are the file."""
    with _told() as store:
        urls = store.presigned_urls(model, version, file, timedelta(hours=hours))
    print_answer(output, urls, "\n".join(urls))


@artifacts.command()
@click.argument("model")
@click.argument("version")
@yes_option
@dry_run_option
@prints(DeletedVersion)
def delete(model: str, version: str, output: str, *, yes: bool, dry_run: bool) -> None:
    """Forget VERSION of MODEL; `gc` frees what no other version shares with it."""
    with _told() as store:
        found = store.manifest(model, version)
        if not dry_run:
            ask_first(f"Delete {model} {version}, {found.size:,} bytes?", yes=yes)
            store.delete_version(model, version)
    said = "dry run: would delete" if dry_run else "deleted"
    print_answer(
        output,
        DeletedVersion(model=model, version=version, size_bytes=found.size, dry_run=dry_run),
        f"{said} {model} {version}: {len(found.files)} files, {found.size:,} bytes",
    )


@artifacts.command()
@dry_run_option
@prints(Garbage)
def gc(output: str, *, dry_run: bool) -> None:
    """Delete what no version refers to and is a day old."""
    with _told() as store:
        chunks = len(store.garbage()) if dry_run else store.collect_garbage()
    said = f"dry run: {chunks} chunks would be deleted" if dry_run else f"{chunks} chunks deleted"
    print_answer(output, Garbage(chunks=chunks, dry_run=dry_run), said)


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
@prints(Lifecycle)
def apply(noncurrent_days: int, output: str, *, dry_run: bool) -> None:
    """Set the rules: replaced versions of objects, unfinished uploads, temporary files."""
    with _told() as store:
        before = store.bucket.lifecycle()
        if not dry_run:
            store.bucket.set_lifecycle(noncurrent_days)
            _print_rules(store.bucket.lifecycle(), output)
            return
    wanted = lifecycle_rules(noncurrent_days)
    sentences = [f"now: {one}" for one in before or ["no rules"]]
    sentences += [f"dry run: {one}" for one in wanted]
    value = Lifecycle(rules=before, would_be=wanted, dry_run=True)
    print_answer(output, value, "\n".join(sentences))


@lifecycle.command()
@prints(Lifecycle)
def show(output: str) -> None:
    """Print the rules in force."""
    with _told() as store:
        _print_rules(store.bucket.lifecycle(), output)


def _print_rules(rules: list[str], output: str) -> None:
    print_answer(output, Lifecycle(rules=rules), "\n".join(rules or ["no rules"]))


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"--metadata {text!r}: expected NAME=VALUE")
        pairs[name] = value
    return pairs
