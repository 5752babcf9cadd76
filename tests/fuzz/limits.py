"""How long one input may take: CPU of this process, so that a full machine finds no fault."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

MAX_CPU_S = 10.0
"""For one input of 4 KiB, instrumented; the slowest that is kept takes 0.2 s."""


class TooSlow(BaseException):
    """One input took more CPU than it may. No Exception: what is tried may not catch it."""


def limited(check: Callable[[bytes], None], cpu_s: float = MAX_CPU_S) -> Callable[[bytes], None]:
    """`check`, which raises TooSlow for an input that takes more than `cpu_s` of CPU.

    A loop in Python is ended then; one in C when it returns. For the main thread alone.
    """

    def too_slow(_number: int, _frame: FrameType | None) -> NoReturn:
        raise TooSlow(f"an input took more than {cpu_s:g} s of CPU")

    def check_within(data: bytes) -> None:
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        try:
            check(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0.0)

    signal.signal(signal.SIGPROF, too_slow)
    return check_within
