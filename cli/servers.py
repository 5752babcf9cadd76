"""`gateway`, `recorder`, `agent`, `model-server`: the processes, as `python -m` starts them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click


def _become(module: str, arguments: Sequence[str]) -> None:
    """Replace this process, so that signals reach the server itself."""
    os.execv(  # noqa: S606  our own modules, arguments as a list
        sys.executable,
        [sys.executable, "-W", "ignore::SyntaxWarning", "-m", module, *arguments],
    )


config_option = click.option(
    "--config",
    "config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
)


@click.command()
@config_option
@click.option(
    "--upgrade", is_flag=True, help="Take over from the gateway that runs, without a lost request."
)
def gateway(config: Path, upgrade: bool) -> None:
    """Serve the routes of CONFIG."""
    _become("gateway", ["--config", str(config), *(["--upgrade"] if upgrade else [])])


@click.command()
@config_option
def recorder(config: Path) -> None:
    """Bring what the gateway of CONFIG spooled to ClickHouse (MLOPS_CLICKHOUSE_*)."""
    _become("gateway.recorder", ["--config", str(config)])


@click.command()
@config_option
def agent(config: Path) -> None:
    """Watch releases and move the weights."""
    _become("agent", ["--config", str(config)])


@click.command("model-server")
@click.option(
    "--model", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True
)
@click.option("--port", type=int, default=8011, show_default=True)
def model_server(model: Path, port: int) -> None:
    """Serve one version of the retrieval model."""
    _become("mlops.serving", ["--model", str(model), "--port", str(port)])
