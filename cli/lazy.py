"""Commands that are imported when they are asked for; the help of each ends with an example."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from cli.examples import EXAMPLES

COMPLETION_CHARS: Final = 45
"""Of what a shell shows beside a command; click's own bound."""


class LazyGroup(click.Group):
    """A group of which some commands are only named; what they import does not slow the others."""

    def __init__(
        self,
        *given: Any,
        later: Mapping[str, str],
        elsewhere: Mapping[str, str] = MappingProxyType({}),
        **more: Any,
    ) -> None:
        """`later` is `module:name` by command; `elsewhere` says, of a command that other tools
        have, what does the same here."""
        super().__init__(*given, **more)
        self._later = later
        self._elsewhere = elsewhere

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all, whether they are imported yet or not."""
        return [*super().list_commands(ctx), *self._later]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import it, if it is one of the later ones. None: there is none of that name."""
        if cmd_name not in self._later:
            return super().get_command(ctx, cmd_name)
        module, _, name = self._later[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command), f"{module}:{name} is a command"
        words = cmd_name if ctx.parent is None else f"{ctx.info_name} {cmd_name}"
        show_examples(words, command)
        return command

    def one_line(self, ctx: click.Context, name: str, limit: int = COMPLETION_CHARS) -> str:
        """A sentence about a command, which is not imported for it: all of them take seconds."""
        if name in self._later:
            told = click.Command(name, help=docstring(self._later[name]))
            return told.get_short_help_str(limit)
        command = self.get_command(ctx, name)
        return command.get_short_help_str(limit) if command is not None else ""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """As click does, without an import."""
        names = (name for name in self.list_commands(ctx) if name.startswith(incomplete))
        commands = [CompletionItem(name, help=self.one_line(ctx, name)) for name in names]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; a misspelt command, or one of another tool, is told what it may be."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if args[0] in self._elsewhere:
                said = f"{error.message} Here it is {self._elsewhere[args[0]]}."
                raise click.UsageError(said, ctx) from None
            close = get_close_matches(args[0], self.list_commands(ctx), n=2)
            if not close:
                raise
            said = f"{error.message} Did you mean {' or '.join(close)}?"
            raise click.UsageError(said, ctx) from None


def docstring(place: str) -> str:
    """Of the function `module:name`, by its source."""
    module, _, name = place.partition(":")
    found = find_spec(module)
    assert found is not None, f"{module} is there"
    assert found.origin is not None, f"{module} has a source"
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    (function,) = (
        one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == name
    )
    return ast.get_docstring(function) or ""


def show_examples(words: str, command: click.Command) -> None:
    """Let the help of the command, and of those below it, end with an example."""
    if words in EXAMPLES:
        command.epilog = f"\b\nExample:\n  rag-mlops {EXAMPLES[words]}"
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            show_examples(f"{words} {name}", inner)
