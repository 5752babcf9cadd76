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
from cli.version import show_version

# Read by numpy when a command's module loads it. Our matrices are small: more threads wait for each
# other, and training costs three times the CPU.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # noqa: TID251  composition root

SECTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "Releases": {
        "status": "cli.status:status",
        "rollback": "cli.traffic:rollback",
        "release": "cli.release:release",
        "weights": "cli.traffic:weights",
        "explain": "cli.explain:explain_command",
        "judge": "cli.judge:judge",
        "drift": "cli.drift:drift",
    },
    "Set up": {
        "init": "cli.init:init",
        "validate": "cli.validate:validate",
        "config": "cli.config:config",
        "doctor": "cli.doctor:doctor",
        "context": "cli.contexts:context",
        "token": "cli.tokens:token",
        "completion": "cli.completion:completion",
    },
    "Run": {
        "demo": "cli.local:demo",
        "up": "cli.local:up",
        "down": "cli.local:down",
        "gateway": "cli.servers:gateway",
        "recorder": "cli.servers:recorder",
        "agent": "cli.servers:agent",
        "model-server": "cli.servers:model_server",
        "clickhouse": "cli.servers:clickhouse",
    },
    "Data and models": {
        "migrate": "cli.store:migrate",
        "spool": "cli.spool:spool",
        "archive": "cli.archive:archive",
        "erase": "cli.archive:erase",
        "artifacts": "cli.artifacts:artifacts",
        "train": "cli.training:train",
        "retrain": "cli.retraining:retrain",
    },
}
"""Where each command is, in the order and under the headings of the help."""

ELSEWHERE: Final[Mapping[str, str]] = {
    "lint": "`rag-mlops validate -f FILE`",
    "undo": "`rag-mlops rollback ROUTE --reason TEXT`",
    "get": "`rag-mlops status` or `rag-mlops release status ROUTE`",
    "list": "`rag-mlops release list`",
    "set": "`rag-mlops weights set ROUTE`",
    "dashboard": "the agent's console, by default http://127.0.0.1:8002/",
    "terminate": "`rag-mlops release abort ROUTE`",
    "version": "`rag-mlops --version`",
    **{
        verb: f"`rag-mlops release {verb} ROUTE`"
        for verb in ("start", "promote", "pause", "resume", "abort", "retry", "history", "replay")
    },
}
"""What users of `kubectl argo rollouts`, and of our own release verbs, type first."""


class Main(LazyGroup, PlainErrors):
    """What stands above every command."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands under the headings of `SECTIONS`."""
        widest = max(len(name) for names in SECTIONS.values() for name in names)
        room = formatter.width - 6 - widest
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.one_line(ctx, name, room)) for name in names])


@click.group(
    cls=Main,
    later={name: place for names in SECTIONS.values() for name, place in names.items()},
    elsewhere=ELSEWHERE,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--context",
    "chosen",
    envvar="RAG_MLOPS_CONTEXT",
    metavar="NAME",
    help="Which environment to talk to; see `rag-mlops context`. [env: RAG_MLOPS_CONTEXT]",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Print the version.",
)
@click.pass_context
def main(ctx: click.Context, chosen: str | None) -> None:
    """Release model versions behind a splitting proxy, and take bad ones back."""
    ctx.obj = chosen
