"""How often an address may come with a wrong token. Pure: time is an argument."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

MAX_FAILURES: Final = 30
"""Within `WINDOW_S`: more than a person mistypes, or a process tries before its token is there."""
WINDOW_S: Final = 60.0
MAX_ADDRESSES: Final = 4096
"""Remembered; of more, those that failed longest ago are forgotten."""


class Failures:
    """Failed attempts by address."""

    def __init__(self) -> None:
        self._failed_at_s: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, address: str, now_s: float) -> float:
        """How long the address has to wait before it is listened to; 0: not at all."""
        failed = self._failed_at_s.get(address)
        if failed is None or len(failed) < MAX_FAILURES:
            return 0.0
        return max(0.0, failed[0] + WINDOW_S - now_s)

    def note(self, address: str, now_s: float) -> None:
        """Count one failure."""
        failed = self._failed_at_s.setdefault(address, deque(maxlen=MAX_FAILURES))
        failed.append(now_s)
        self._failed_at_s.move_to_end(address)
        if len(self._failed_at_s) > MAX_ADDRESSES:
            self._failed_at_s.popitem(last=False)
