"""The `rag-mlops` command: one module a verb group, joined here and imported when it is asked for.

A rollback must not wait for what only training needs to be imported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import click

from cli.lazy import LazyGroup
from cli.refusals import PlainErrors

# Read by numpy when a command's module loads it. Our matrices are small: more threads wait for each
# other, and training costs three times the CPU.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # noqa: TID251  composition root

COMMANDS: Final[Mapping[str, str]] = {
    "up": "cli.local:up",
    "down": "cli.local:down",
    "demo": "cli.local:demo",
    "gateway": "cli.servers:gateway",
    "recorder": "cli.servers:recorder",
    "spool": "cli.spool:spool",
    "agent": "cli.servers:agent",
    "model-server": "cli.servers:model_server",
    "clickhouse": "cli.servers:clickhouse",
    "artifacts": "cli.artifacts:artifacts",
    "config": "cli.config:config",
    "doctor": "cli.doctor:doctor",
    "migrate": "cli.store:migrate",
    "archive": "cli.archive:archive",
    "erase": "cli.archive:erase",
    "validate": "cli.validate:validate",
    "judge": "cli.judge:judge",
    "drift": "cli.drift:drift",
    "explain": "cli.explain:explain_command",
    "train": "cli.training:train",
    "retrain": "cli.retraining:retrain",
    "status": "cli.status:status",
    "weights": "cli.traffic:weights",
    "rollback": "cli.traffic:rollback",
    "release": "cli.release:release",
    "context": "cli.contexts:context",
    "token": "cli.tokens:token",
    "completion": "cli.completion:completion",
    "init": "cli.init:init",
}
"""Where each command is."""


class Main(LazyGroup, PlainErrors):
    """What stands above every command."""


@click.group(cls=Main, later=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--context",
    "chosen",
    envvar="RAG_MLOPS_CONTEXT",
    metavar="NAME",
    help="Which environment to talk to; see `rag-mlops context`. [env: RAG_MLOPS_CONTEXT]",
)
@click.version_option(package_name="rag-mlops")
@click.pass_context
def main(ctx: click.Context, chosen: str | None) -> None:
    """Release model versions behind a splitting proxy, and take bad ones back."""
    ctx.obj = chosen
