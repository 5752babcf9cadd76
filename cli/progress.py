"""How far long work is: bars in a terminal, a line now and then elsewhere, nothing for programs.

Both go to stderr: stdout has the answer alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from cli.output import is_data

LINE_EVERY_S: Final = 10.0
"""Between two lines: a log of an hour's work has 360 of them, and short work none."""

Tell = Callable[[str, int, int], None]
"""What is being done, how much of it is, and of how many; the total may grow."""

_COUNT: Final = (
    TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
)  # fmt: skip
_BYTES: Final = (
    TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
)  # fmt: skip


class Lines:
    """The same as sentences, at most one in `LINE_EVERY_S` seconds; the first after as long."""

    def __init__(self, say: Callable[[str], None], now_s: Callable[[], float]) -> None:
        self._say = say
        self._now_s = now_s
        self._last_s = now_s()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Say how far it is, if it is time to."""
        if self._now_s() - self._last_s < LINE_EVERY_S:
            return
        self._last_s = self._now_s()
        self._say(f"{what}: {done:,} of {total:,}")


@contextmanager
def shown(
    output: str, *, counts_bytes: bool = False, console: Console | None = None
) -> Iterator[Tell]:
    """What to tell; one bar for each kind of work.

    What is printed to a terminal meanwhile goes above the bars.
    """
    console = console or Console(stderr=True)
    if is_data(output):
        yield lambda _what, _done, _total: None
    elif not console.is_terminal:
        yield Lines(lambda sentence: click.echo(sentence, err=True), time.monotonic)
    else:
        columns = _BYTES if counts_bytes else _COUNT
        tasks: dict[str, TaskID] = {}
        with Progress(
            *columns, console=console, redirect_stdout=sys.stdout.isatty(), transient=True
        ) as progress:

            def tell(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = progress.add_task(what, total=total)
                progress.update(tasks[what], completed=done, total=total)

            yield tell
