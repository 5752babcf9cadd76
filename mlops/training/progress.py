"""How far a long step is: told to whoever wants to show it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

Progress = Callable[[str, int, int], None]
"""Told in whole units of one kind of work: its name, how many are done, of how many."""


def _silent(what: str, done: int, total: int) -> None:
    del what, done, total


SILENT: Final[Progress] = _silent
