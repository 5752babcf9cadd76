"""Which records are inserted together. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.recorder.cursor import Range
from gateway.recorder.entries import Entry
from gateway.recorder.settings import RecorderSettings


class Batch:
    """Entries in the order of the spool, until there are enough of them."""

    def __init__(self, settings: RecorderSettings) -> None:
        self.entries: list[Entry] = []
        self.oldest_us = 0
        """When the first of its exchanges ended, since the epoch; 0 where it has none."""
        self.weight_bytes = 0
        """What its rows take of memory, about."""
        self._settings = settings
        self._rows = 0
        self._opened_at_s = 0.0

    def add(self, entry: Entry, now_s: float) -> None:
        """Take an entry in; the first one starts the batch's time, `now_s` on a monotonic clock."""
        if not self.entries:
            self._opened_at_s = now_s
        self.entries.append(entry)
        self._rows += entry.tally is None
        if entry.ended_at_us and not self.oldest_us:
            self.oldest_us = entry.ended_at_us
        self.weight_bytes += entry.weight_bytes

    def is_full(self, now_s: float, most_bytes: int) -> bool:
        """Nothing more may go in: it is inserted as it is."""
        return bool(self.entries) and (
            self._rows >= self._settings.most_rows
            or self.weight_bytes >= most_bytes
            or now_s - self._opened_at_s >= self._settings.batch_s
        )

    def is_enough(self) -> bool:
        """Where nothing more is there to be read, waiting for more gains nothing.

        It has its rows, or a tally is the last of it: nothing more comes of that second.
        """
        return bool(self.entries) and (
            self._rows >= self._settings.batch_rows or self.entries[-1].tally is not None
        )


def batch_bytes_of(settings: RecorderSettings, workers: int) -> int:
    """How heavy a batch may be while so many workers are read, each with two in hand."""
    return min(settings.batch_bytes, settings.bytes_in_hand // (2 * max(1, workers)))


def halves(whole: Range, entries: Sequence[Entry]) -> tuple[Range, Range]:
    """Split a refused range so that each part has about half of the rows, and at least one."""
    rows = [index for index, entry in enumerate(entries) if entry.row is not None]
    assert len(rows) > 1, "a single row is not split but becomes a dead letter"
    middle = entries[rows[len(rows) // 2]].start
    return Range(whole.start, middle), Range(middle, whole.end)
