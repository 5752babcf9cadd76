"""`up`, `down`, `demo`: a whole stack on this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from dataclasses import asdict
from itertools import count
from pathlib import Path

import click
from rich.console import Console

from cli.connect import UP_DIRECTORY, running_stack
from cli.demo.report import Report
from cli.demo.story import ROUTE, Story
from cli.demo.view import View, print_report
from cli.options import NEW_FILE
from cli.output import dry_run_option, is_data, print_answer, print_data, prints
from cli.progress import shown
from cli.shapes import StackEnded
from mlops.config import read_config
from mlops.local.processes import StartFailed, is_running, stop
from mlops.local.stack import Ports, Stack, remove_files
from mlops.training.linear_adapter import prepare_demo_models

PARTS = 8
"""That `up` starts."""
MODEL = "rag_embedding_model"
DEMO_DIRECTORY = Path("var/demo")


@click.command()
@dry_run_option
@prints(dict[str, str])
def up(output: str, *, dry_run: bool) -> None:
    """Start the whole system on this machine, and leave it running.

    ClickHouse, an S3 server, MLflow, two model servers, gateway, recorder and agent. What the model
    servers serve is registered: 1.0.0 as champion, and 1.1.0 to release. A port that is taken is
    replaced by a free one. Data and logs lie below var/up.
    """
    if (stack_file := running_stack()) and any(map(is_running, stack_file.processes)):
        raise click.ClickException("a stack is running already; `rag-mlops down` ends it")
    read_config()  # a mistake in the settings is told now, not when everything runs
    ports = Ports().where_free()
    if dry_run:
        wanted = {
            name: f"127.0.0.1:{port or 'a free port'}" for name, port in asdict(ports).items()
        }
        _print_addresses(wanted, output)
        return
    UP_DIRECTORY.mkdir(parents=True, exist_ok=True)
    with shown(output) as tell:
        ready = count(1)
        stack = Stack(
            directory=UP_DIRECTORY.resolve(),
            ports=ports,
            environ=os.environ,  # noqa: TID251  the composition root of this command
            on_ready=lambda _: tell("parts that answer", next(ready), PARTS),
        )
        tell("parts that answer", 0, PARTS)
        try:
            _start_all(stack)
        except BaseException as error:
            stack.stop()
            if isinstance(error, StartFailed):
                raise click.ClickException(f"{error}\nwhat had started is ended") from None
            raise
    _print_addresses(stack.addresses, output)


def _start_all(stack: Stack) -> None:
    """Each part as soon as what it needs is there; MLflow, the slowest, first of all."""
    s3_ready = stack.begin_s3()
    clickhouse_ready = stack.begin_clickhouse()
    s3_ready()
    mlflow_ready = stack.begin_mlflow()
    models = prepare_demo_models(UP_DIRECTORY.parent / "models")
    model_a_ready = stack.begin_model("model-a", models["1.0.0"], stack.ports.model_a)
    model_b_ready = stack.begin_model("model-b", models["1.1.0"], stack.ports.model_b)
    clickhouse_ready()
    route = {
        "name": ROUTE,
        "model": MODEL,
        "match": {"prefix": "/"},
        "stable": {"version": "1.0.0", "endpoints": [model_a_ready()]},
        "sticky": {"header": "x-user-id"},
    }
    stack.start_gateway([route])
    stack.start_recorder()
    stack.start_agent()
    model_b_ready()
    # MLflow's client takes seconds to import: here it does while MLflow's server does the same.
    from mlops.local.first_versions import register_first_versions  # noqa: PLC0415

    mlflow_ready()
    served = {version: models[version] for version in ("1.0.0", "1.1.0")}
    config = read_config(stack.environment(), stack.directory)
    register_first_versions(config, MODEL, served, champion="1.0.0")


@click.command()
@dry_run_option
@prints(StackEnded)
def down(output: str, *, dry_run: bool) -> None:
    """End the stack that `up` (or `demo --keep`) started; its data stays."""
    ended: list[str] = []
    sentences: list[str] = []
    for directory in (UP_DIRECTORY, DEMO_DIRECTORY):
        stack = running_stack(directory)
        if stack is None:
            continue
        names = [process.name for process in stack.processes]
        ended += names
        if dry_run:
            sentences.append(f"dry run: would end {', '.join(names)}")
            continue
        killed = stop(stack.processes)
        remove_files(directory)
        had_to = f"; had to kill {', '.join(killed)}" if killed else ""
        sentences.append(f"ended {', '.join(names)}{had_to}")
    said = "\n".join(sentences) or "nothing was running"
    print_answer(output, StackEnded(ended=ended, dry_run=dry_run), said)


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running and print the addresses.")
@click.option(
    "--picture",
    type=NEW_FILE,
    help="Also write what the terminal showed at the end, as an SVG.",
)
@prints(Report)
def demo(keep: bool, picture: Path | None, output: str) -> None:
    """Release a better version and a worse one, with real queries, and prove what happened.

    Exit code 0 only if the better one was promoted, the worse one rolled back, every answer has
    exactly one row, the aggregates agree, and no client saw an error of the gateway's.
    """
    if (stack := running_stack(DEMO_DIRECTORY)) and any(map(is_running, stack.processes)):
        raise click.ClickException("a kept demo is running; `rag-mlops down` ends it")
    shutil.rmtree(DEMO_DIRECTORY, ignore_errors=True)
    DEMO_DIRECTORY.mkdir(parents=True)
    console = Console(quiet=is_data(output))
    view = View(console)
    story = Story(
        DEMO_DIRECTORY.resolve(),
        view,
        os.environ,  # noqa: TID251  the composition root of this command
    )
    try:
        with view:
            story.start()
            report = asyncio.run(story.tell())
        report.write(DEMO_DIRECTORY / "report.json")
        print_report(console, report)
        if is_data(output):
            print_data(output, report)
        if picture is not None:
            view.save_picture(picture, report)
        if keep:
            _print_addresses(story.stack.addresses, "text", err=is_data(output))
    except StartFailed as error:
        raise click.ClickException(str(error)) from None
    finally:
        if not keep:
            story.stack.stop()
    sys.exit(1 if report.false else 0)


def _print_addresses(addresses: dict[str, str], output: str, *, err: bool = False) -> None:
    if is_data(output):
        print_data(output, addresses)
        return
    for name, url in addresses.items():
        click.echo(f"{name:<12} {url}", err=err)
