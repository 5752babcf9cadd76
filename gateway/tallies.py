"""When a worker tallies what it answered: once a second, every second once, in order."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from mlops.contracts.tally import Tally

MAX_SECONDS_CAUGHT_UP = 60
"""After a pause, seconds that get a tally of their own; older ones are summed into the first."""
MAX_PENDING_TALLIES = 600
"""Ten minutes of tallies wait for a spool that takes none; past that the oldest is given up."""


class TakesTallies(Protocol):
    """The part of the spool that tallies need."""

    def offer_tally(self, tally: Tally) -> bool:
        """False: there is no room now; it is offered again."""


class TallySchedule:
    """Which seconds have been tallied, and tallies that the spool has not taken yet."""

    def __init__(self, last_second: int) -> None:
        self._last_second = last_second
        self._pending: deque[Tally] = deque(maxlen=MAX_PENDING_TALLIES)

    def due(self, passed: int) -> range:
        """Seconds to tally now that `passed` is over; none while the clock is set back."""
        first = max(self._last_second + 1, passed - MAX_SECONDS_CAUGHT_UP + 1)
        self._last_second = max(self._last_second, passed)
        return range(first, passed + 1)

    def offer(self, spool: TakesTallies, tally: Tally) -> None:
        """Hand over in order: a tally says that everything before it is in the spool."""
        self._pending.append(tally)
        while self._pending and spool.offer_tally(self._pending[0]):
            self._pending.popleft()
