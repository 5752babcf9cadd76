"""How far a long step is: told to whoever wants to show it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol


class Progress(Protocol):
    """Told in whole units of one kind of work; `total` may grow."""

    def __call__(self, what: str, done: int, total: int) -> None: ...


def _silent(what: str, done: int, total: int) -> None:
    del what, done, total


SILENT: Final[Progress] = _silent


@contextmanager
def bars() -> Iterator[Progress]:
    """Progress bars on standard error, one for each kind of work."""
    from rich.console import Console  # noqa: PLC0415  only where somebody looks
    from rich.progress import Progress as Bars  # noqa: PLC0415
    from rich.progress import TaskID  # noqa: PLC0415

    tasks: dict[str, TaskID] = {}
    with Bars(console=Console(stderr=True)) as shown:

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done, total=total)

        yield tell
