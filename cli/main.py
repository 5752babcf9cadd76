"""The `rag-mlops` command: one module a verb group, joined here."""

from __future__ import annotations

import click

from cli.archive import archive, erase
from cli.artifacts import artifacts
from cli.config import config
from cli.doctor import doctor
from cli.drift import drift
from cli.explain import explain_command
from cli.judge import judge
from cli.local import demo, down, up
from cli.release import release
from cli.servers import agent, gateway, model_server, recorder
from cli.spool import spool
from cli.store import migrate
from cli.traffic import rollback, weights
from cli.training import train
from cli.validate import validate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Release model versions behind a splitting proxy, and take bad ones back."""


for command in (
    up,
    down,
    demo,
    gateway,
    recorder,
    spool,
    agent,
    model_server,
    artifacts,
    config,
    doctor,
    migrate,
    archive,
    erase,
    validate,
    judge,
    drift,
    explain_command,
    train,
    weights,
    rollback,
    release,
):
    main.add_command(command)
