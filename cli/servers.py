"""The processes, as `python -m` starts them: `gateway`, `recorder`, `agent` and others."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.init import DEFAULT_CANARY_PERCENT, quick_gateway_file
from cli.options import FILE, FOLDER, KNOWN_FOLDER, PORT, refuse_typed
from mlops.contracts.plan import MAX_CANARY_SHARE_BP

F = TypeVar("F", bound=Callable[..., Any])


def _become(module: str, arguments: Sequence[str]) -> None:
    """Replace this process, so that signals reach the server itself."""
    os.execv(  # noqa: S606  our own modules, arguments as a list
        sys.executable,
        [sys.executable, "-W", "ignore::SyntaxWarning", "-m", module, *arguments],
    )


def config_option(of: str, *, required: bool = True) -> Callable[[F], F]:
    """Where the process's file is."""
    return click.option("--config", type=FILE, required=required, help=f"The {of}'s file.")


@click.command()
@config_option("gateway", required=False)
@click.option(
    "--upgrade", is_flag=True, help="Take over from the gateway that runs, without a lost request."
)
@click.option("--stable", metavar="URL", help="Instead of a file: the server that serves today.")
@click.option("--canary", metavar="URL", help="With --stable: the version to try.")
@click.option(
    "--weight",
    type=click.FloatRange(0, MAX_CANARY_SHARE_BP / 100),
    default=DEFAULT_CANARY_PERCENT,
    show_default=True,
    help="With --canary: percent of it.",
)
@click.option("--listen", default="127.0.0.1:8000", show_default=True, help="With --stable.")
@click.option("--admin", default="127.0.0.1:8001", show_default=True, help="With --stable.")
def gateway(
    config: Path | None,
    stable: str | None,
    canary: str | None,
    weight: float,
    listen: str,
    admin: str,
    *,
    upgrade: bool,
) -> None:
    """Serve the routes of --config, or split everything between --stable and --canary."""
    if (config is None) == (stable is None):
        raise click.UsageError("expected either --config FILE or --stable URL")
    if config is not None:
        refuse_typed(("canary", "weight", "listen", "admin"), "needs --stable")
    elif canary is None:
        refuse_typed(("weight",), "needs --canary")
    if config is None:
        assert stable is not None, "one of the two is given"
        if upgrade:
            raise click.UsageError("--upgrade needs --config")
        config = _quick_file(stable, canary, weight, listen, admin)
    _become("gateway", ["--config", str(config), *(["--upgrade"] if upgrade else [])])


def _quick_file(stable: str, canary: str | None, weight: float, listen: str, admin: str) -> Path:
    """In a new directory each time, so that what is asked for now is what is served."""
    directory = Path(tempfile.mkdtemp(prefix="rag-mlops-gateway-"))
    file = directory / "gateway.yaml"
    text = quick_gateway_file(stable, canary, weight, listen, admin, directory / "state")
    file.write_text(text, encoding="utf-8")
    click.echo(f"serving what stands in {file}; nothing is recorded", err=True)
    return file


@click.command()
@config_option("gateway")
@click.option("--metrics-port", type=PORT, help="Serve Prometheus text here; 0: any port.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="On this address.")
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="On SIGTERM, read what is left for so long, until the gateway has ended and all is read.",
)
def recorder(config: Path, metrics_port: int | None, metrics_host: str, drain: float) -> None:
    """Bring what the gateway of CONFIG spooled to ClickHouse (MLOPS_CLICKHOUSE_*)."""
    metrics = () if metrics_port is None else ("--metrics-port", str(metrics_port))
    more = (*metrics, "--metrics-host", metrics_host, "--drain", str(drain))
    _become("gateway.recorder", ["--config", str(config), *more])


@click.command()
@config_option("agent")
def agent(config: Path) -> None:
    """Watch releases and move the weights."""
    _become("agent", ["--config", str(config)])


@click.command("model-server")
@click.option(
    "--model",
    type=KNOWN_FOLDER,
    required=True,
    help="Folder of the version.",
)
@click.option("--port", type=PORT, default=8011, show_default=True, help="Where it listens.")
@click.option("--host", default="127.0.0.1", show_default=True, help="On this address.")
@click.option("--tls-cert", type=FILE, help="PEM file of its certificate; else it is plain HTTP.")
@click.option("--tls-key", type=FILE, help="PEM file of the key that belongs to it.")
@click.option("--tls-client-ca", type=FILE, help="PEM file of who signs clients' certificates.")
def model_server(model: Path, port: int, host: str, **tls: Path | None) -> None:
    """Serve one version of the retrieval model."""
    arguments = ["--model", str(model), "--port", str(port), "--host", host]
    for name, path in tls.items():
        if path is not None:
            arguments += [f"--{name.replace('_', '-')}", str(path)]
    _become("mlops.serving", arguments)


@click.command()
@click.option(
    "--path",
    type=FOLDER,
    default=Path("var/clickhouse"),
    show_default=True,
    help="Where the tables lie.",
)
@click.option("--port", type=PORT, default=8123, show_default=True, help="Where it listens.")
def clickhouse(path: Path, port: int) -> None:
    """Run ClickHouse's engine on this machine, where there is no server yet; for this machine only.

    It keeps tables and speaks ClickHouse's HTTP. Then `migrate` makes the tables.
    """
    _become("mlops.local.clickhouse", ["--path", str(path), "--port", str(port)])
