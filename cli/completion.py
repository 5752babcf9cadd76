"""`completion SHELL`: the script that completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "rag-mlops"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    For bash: `eval "$(rag-mlops completion bash)"` in ~/.bashrc; zsh and fish likewise.
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows every shell of the choice"
    click.echo(kind(ctx.find_root().command, {}, PROGRAM, "_RAG_MLOPS_COMPLETE").source())
