"""`archive`: days of the tables to S3 and back. `erase`: a person out of all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import click
from msgspec.structs import asdict

from cli.connect import run
from cli.options import ask_first, yes_option
from cli.output import dry_run_option, is_data, print_data, print_entry, prints
from cli.progress import Tell, shown
from cli.shapes import ArchivedDay, DueDay, ErasedRows, ListedDay, RestoredDay
from cli.store import clickhouse_settings
from mlops.artifact_store.bucket import Bucket
from mlops.config import read_config
from mlops.feature_store.archive import Archive
from mlops.feature_store.archive_plan import ARCHIVED
from mlops.feature_store.connection import open_client
from mlops.feature_store.eraser import Eraser
from mlops.feature_store.erasure import RESTORED, Erased
from mlops.feature_store.erasure_preview import ErasurePreview
from mlops.feature_store.errors import Unavailable
from mlops.feature_store.object_store import ObjectStore
from mlops.feature_store.partitions import BucketPartitions, FolderPartitions, Partitions

DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.group()
def archive() -> None:
    """Keep days of the tables in S3 as Parquet, before retention deletes them."""


@archive.command("run")
@click.option(
    "--older-than",
    "older_than_days",
    type=click.IntRange(min=1),
    help="Also tables without retention, and days that are this many days old.",
)
@dry_run_option
@prints(list[ArchivedDay], list[DueDay])
def archive_run(older_than_days: int | None, output: str, *, dry_run: bool) -> None:
    """Archive every day that is due and not archived yet. Safe to repeat; run it daily.

    A day is due one day before MLOPS_CLICKHOUSE_RETENTION deletes it. Each file is read back and
    compared before the day counts as archived.
    """
    if dry_run:
        _print_due(run(_due(older_than_days)), output)
        return
    done = run(_archive(older_than_days, output))
    if is_data(output):
        print_data(output, done)
    elif not done:
        click.echo("nothing to do")


@archive.command("check")
@prints(list[DueDay])
def archive_check(output: str) -> None:
    """Exit 1 where a day is due and not archived."""
    due = run(_due(None))
    _print_due(due, output)
    if due:
        raise SystemExit(1)


def _print_due(due: list[tuple[str, date]], output: str) -> None:
    if is_data(output):
        print_data(output, [DueDay(table=table, day=day) for table, day in due])
        return
    lines = [f"due {table} {day}" for table, day in due]
    click.echo("\n".join(lines) or "every day that is due is archived")


@archive.command("ls")
@click.argument("tables", nargs=-1, type=click.Choice(sorted(ARCHIVED)))
@prints(list[ListedDay])
def archive_ls(tables: tuple[str, ...], output: str) -> None:
    """List archived days with their rows and bytes."""
    found = run(_archived(tables or tuple(ARCHIVED)))
    if is_data(output):
        print_data(output, found)
        return
    for one in found:
        click.echo(f"{one.table} {one.day}: {one.rows:,} rows, {one.bytes:,} bytes")


@archive.command("restore")
@click.argument("table", type=click.Choice(sorted(ARCHIVED)), metavar="TABLE")
@click.option("--day", "first", type=DAY, required=True, help="Day to bring back (UTC).")
@click.option("--until", "last", type=DAY, help="Last day, if there are several.")
@click.option("--into", help="Table to fill.  [default: TABLE_restored]")
@dry_run_option
@prints(RestoredDay, is_stream=True)
def archive_restore(
    table: str,
    first: datetime,
    last: datetime | None,
    into: str | None,
    output: str,
    *,
    dry_run: bool,
) -> None:
    """Bring archived days back, into a table that retention leaves alone. Safe to repeat."""
    target = into or table + RESTORED
    if not target.isidentifier():
        raise click.BadParameter(f"{target!r} is not a name of a table")
    if target in ARCHIVED:
        raise click.BadParameter(f"{target}: its retention would delete the days again")
    day, end = first.date(), (last or first).date()
    if end < day:
        raise click.UsageError(f"--until {end} is before --day {day}")
    while day <= end:
        rows = run(_archived_rows(table, day) if dry_run else _restore(table, day, target, output))
        said = "dry run: would restore" if dry_run else "restored"
        if is_data(output):
            print_entry(
                output,
                RestoredDay(table=table, day=day, into=target, rows=rows, dry_run=dry_run),
            )
        else:
            click.echo(f"{said} {table} {day} into {target}: {rows:,} rows")
        day += timedelta(days=1)


@click.command()
@click.option("--user", "user_id", required=True, help="The id as it is stored.")
@click.option(
    "--partitions",
    "places",
    multiple=True,
    help="Folder or s3://BUCKET/PREFIX of training data; several times for several. "
    " [default: MLOPS_RETRAINING_DATA_PATH, if it is there]",
)
@yes_option
@dry_run_option
@prints(ErasedRows)
def erase(user_id: str, places: tuple[str, ...], output: str, *, yes: bool, dry_run: bool) -> None:
    """Take a person out of tables, archived days and training partitions.

    Returns when nothing is left, on disk either. Repeat it after a minute where requests of the
    person may still have been on their way, and after any failure.
    """
    if not user_id:
        raise click.UsageError("--user is empty; expected the id of the person")
    if not dry_run:
        ask_first(f"Erase everything of {user_id}? It cannot be brought back.", yes=yes)
    with shown(output) as tell:
        erased = run(_erase(user_id, places, tell, dry_run=dry_run))
    if is_data(output):
        print_data(output, ErasedRows(**asdict(erased), dry_run=dry_run))
        return
    click.echo(
        ("dry run: would erase " if dry_run else "erased ")
        + f"{erased.rows:,} rows, {erased.evaluations:,} evaluations, "
        f"{erased.dead_letters:,} dead letters, {erased.archived:,} archived rows, "
        f"{erased.partitions:,} rows of training partitions"
    )


async def _archive(older_than_days: int | None, output: str) -> list[ArchivedDay]:
    """Each day is said as soon as it is there: what is archived stays, whatever comes after."""
    done: list[ArchivedDay] = []
    async with _archive_of_settings() as store:
        due = await store.missing(older_than_days=older_than_days)
        with shown(output) as tell:
            for table, day in due:
                tell("days archived", len(done), len(due))
                manifest = await store.archive_day(table, day, told=_rows(tell))
                done.append(ArchivedDay(table=table, day=day, rows=manifest.rows))
                if not is_data(output):
                    click.echo(f"archived {table} {day}: {manifest.rows:,} rows")
    return done


def _rows(tell: Tell) -> Callable[[int, int], None]:
    return lambda done, total: tell("rows of this day", done, total)


async def _due(older_than_days: int | None) -> list[tuple[str, date]]:
    async with _archive_of_settings() as store:
        return await store.missing(older_than_days=older_than_days)


async def _archived(tables: tuple[str, ...]) -> list[ListedDay]:
    found: list[ListedDay] = []
    async with _archive_of_settings() as store:
        for table in tables:
            for day in await store.days(table):
                if (manifest := await store.manifest(table, day)) is not None:
                    size_bytes = sum(part.size_bytes for part in manifest.parts)
                    found.append(
                        ListedDay(table=table, day=day, rows=manifest.rows, bytes=size_bytes)
                    )
    return found


async def _archived_rows(table: str, day: date) -> int:
    async with _archive_of_settings() as store:
        manifest = await store.manifest(table, day)
    if manifest is None:
        raise click.ClickException(f"{table} of {day} is not archived; `archive ls` shows what is")
    return manifest.rows


async def _restore(table: str, day: date, into: str, output: str) -> int:
    async with _archive_of_settings() as store:
        try:
            with shown(output) as tell:
                return await store.restore_day(table, day, into=into, told=_rows(tell))
        except ValueError as error:
            raise click.ClickException(str(error)) from error


async def _erase(user_id: str, places: tuple[str, ...], tell: Tell, *, dry_run: bool) -> Erased:
    settings = clickhouse_settings()
    objects = _objects()
    try:
        client = await open_client(settings, database=settings.database)
        try:
            store = Archive(client, settings, objects) if objects is not None else None
            if store is None:
                click.echo("no archive is configured (MLOPS_MINIO_ACCESS_KEY is empty)", err=True)
            partitions = _partitions(places)
            if dry_run:
                preview = ErasurePreview(client, settings, store, told=tell)
                return await preview.count(user_id, partitions)
            return await Eraser(client, settings, store, told=tell).erase(user_id, partitions)
        finally:
            await client.close()
    except Unavailable as error:
        raise Unavailable(f"{error}; run the same again") from error


def _partitions(places: tuple[str, ...]) -> list[Partitions]:
    found: list[Partitions] = []
    for place in places or (str(read_config().retraining.data_path),):
        if place.startswith("s3://"):
            bucket, _, prefix = place.removeprefix("s3://").partition("/")
            objects = _objects(bucket)
            if objects is None:
                raise click.ClickException(f"{place}: MLOPS_MINIO_ACCESS_KEY is empty")
            found.append(BucketPartitions(objects, prefix))
        elif Path(place).is_dir():
            found.append(FolderPartitions(Path(place)))
        elif places:
            raise click.ClickException(f"{place} is not a folder")
    return found


def _objects(bucket: str = "") -> ObjectStore | None:
    """The bucket of the settings or another one on its server; None where no key is set."""
    minio = read_config().minio
    if not minio.access_key:
        return None
    return ObjectStore(Bucket(replace(minio, bucket_name=bucket or minio.bucket_name)))


@asynccontextmanager
async def _archive_of_settings() -> AsyncIterator[Archive]:
    objects = _objects()
    if objects is None:
        raise click.ClickException(
            "no archive is configured: set MLOPS_MINIO_ENDPOINT, MLOPS_MINIO_ACCESS_KEY, "
            "MLOPS_MINIO_SECRET_KEY and MLOPS_MINIO_BUCKET_NAME"
        )
    try:
        async with Archive.connected(clickhouse_settings(), objects) as store:
            yield store
    except Unavailable as error:
        raise Unavailable(f"{error}; what was done stays, run the same again") from error
