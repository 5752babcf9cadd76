"""Commands that are imported one by one, as they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """A group of which some commands are only named; what they import does not slow the others."""

    def __init__(self, *given: Any, later: Mapping[str, str], **more: Any) -> None:
        """`later` is `module:name` by command."""
        super().__init__(*given, **more)
        self._later = later

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self._later]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._later:
            return super().get_command(ctx, cmd_name)
        module, _, name = self._later[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command), f"{module}:{name} is a command"
        return command
