"""`spool ls|cat|verify`: look into a spool, beside gateway and recorder, changing nothing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec.structs import asdict

from cli.gateway_file import read_gateway_file
from cli.options import FILE, KNOWN_FOLDER
from cli.output import is_data, print_data, print_entry, prints
from cli.spool_records import UnreadableRecord, UnstoredExchange, UnstoredTally, shown
from gateway.recorder import inspection
from gateway.recorder.cursor import BadCursor
from gateway.spool.format import BadSegment


class VerifiedWorker(inspection.WorkerReport, kw_only=True):
    """What lies after the cursor, and whether it is whole."""

    whole: bool


@click.group()
def spool() -> None:
    """Look into what the gateway's workers spooled and the recorder has not stored yet."""


def _where(command: Callable[..., None]) -> Callable[..., None]:
    of_file = click.option("--config", type=FILE, help="The gateway's file; it names the spool.")
    itself = click.option("--dir", "directory", type=KNOWN_FOLDER, help="The spool itself.")
    return itself(of_file(command))


def _spool(directory: Path | None, config_path: Path | None) -> Path:
    if (directory is None) == (config_path is None):
        raise click.UsageError("give one of --dir and --config")
    if directory is not None:
        return directory
    assert config_path is not None
    found = read_gateway_file(config_path).spool
    if found is None:
        raise click.ClickException(f"{config_path} has no `spool`")
    if not found.dir.is_dir():
        raise click.ClickException(
            f"{config_path} names the spool {found.dir}, which is not there: no gateway has made "
            "it yet, or it starts in another directory"
        )
    return found.dir


@spool.command()
@_where
@prints(list[inspection.WorkerState])
def ls(directory: Path | None, config: Path | None, output: str) -> None:
    """List the workers: alive or gone, how much lies there, how far it is acknowledged."""
    path = _spool(directory, config)
    states = inspection.states(path)
    if is_data(output):
        print_data(output, states)
        return
    for state in states:
        life = "alive" if state.alive else "gone"
        click.echo(
            f"{state.worker}  {life}  {state.segments} segments  {state.bytes / 2**20:.1f} MiB  "
            f"acknowledged to {state.acknowledged}  {state.on_its_way} on their way"
            + (f"  {state.problem}" if state.problem else "")
        )


@spool.command()
@_where
@click.option("--worker", help="Only this one's records.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many records.")
@click.option("--bodies", is_flag=True, help="With the bodies of requests and answers, as sent.")
@prints(UnstoredExchange, UnstoredTally, UnreadableRecord, is_stream=True)
def cat(
    directory: Path | None,
    config: Path | None,
    worker: str | None,
    limit: int | None,
    output: str,
    *,
    bodies: bool,
) -> None:
    """Print the records that are not acknowledged, a JSON object a line."""
    path = _spool(directory, config)
    names = inspection.workers(path)
    if worker is not None and worker not in names:
        raise click.ClickException(f"no worker {worker!r}; there are {', '.join(names) or 'none'}")
    found = (
        shown(name, record, bodies=bodies)
        for name in ([worker] if worker else names)
        for record in inspection.records(path, name)
    )
    try:
        for one in itertools.islice(found, limit):
            if is_data(output):
                print_entry(output, one)
            else:
                click.echo(_line(msgspec.to_builtins(one)))
    except (BadSegment, BadCursor) as exc:
        raise click.ClickException(str(exc)) from exc


def _line(record: dict[str, Any]) -> str:
    head = f"{record.pop('worker')} {record.pop('segment')}-{record.pop('sequence')}"
    return f"{head} " + " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in record.items()
        if value not in ("", None)
    )


@spool.command()
@_where
@prints(list[VerifiedWorker])
def verify(directory: Path | None, config: Path | None, output: str) -> None:
    """Read everything that is not acknowledged; exit 1 where something of it is damaged."""
    path = _spool(directory, config)
    reports = [inspection.verify(path, worker) for worker in inspection.workers(path)]
    if is_data(output):
        print_data(output, [VerifiedWorker(**asdict(x), whole=x.is_whole) for x in reports])
    else:
        for report in reports:
            click.echo(_verdict(report))
    if not all(report.is_whole for report in reports):
        raise SystemExit(1)


def _verdict(report: inspection.WorkerReport) -> str:
    said = [f"{report.exchanges} exchanges, {report.tallies} tallies"]
    if report.missing:
        said.append(f"{report.missing} missing")
    said += [f"cut at {cut}" for cut in report.cuts]
    said += [f"unreadable {each}" for each in report.unreadable]
    if report.problem:
        said.append(report.problem)
    return f"{report.worker}  {'whole' if report.is_whole else 'DAMAGED'}  {'; '.join(said)}"
