"""Counts the events of a stream as it passes, whatever the slices it comes in. Pure.

The framing is that of server-sent events (WHATWG HTML, 9.2.6): a blank line ends an event, one
without a `data` line is none. So comments, which servers send to keep a connection open, do not
count, and do not shorten the gap between two events.
"""

from __future__ import annotations

from typing import Final

MEDIA_TYPE: Final = b"text/event-stream"

_KEPT_OF_LINE: Final = 8
"""Bytes of an unfinished line that are kept: enough to see whether it is a `data` line."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def is_event_stream(content_type: bytes) -> bool:
    """Whether an answer of this media type is a stream of events."""
    return content_type[: len(MEDIA_TYPE)].lower() == MEDIA_TYPE


class EventStream:
    """Of one answer. Times are in nanoseconds on the caller's clock."""

    __slots__ = (
        "_after_cr",
        "_has_data",
        "_is_begun",
        "_line",
        "events",
        "first_ns",
        "last_ns",
        "max_gap_ns",
    )

    def __init__(self) -> None:
        self.events = 0
        self.first_ns = 0
        """When the first event was whole; 0 before."""
        self.last_ns = 0
        self.max_gap_ns = 0
        """Longest time between two events."""
        self._line = b""
        """The beginning of the line that has no end yet."""
        self._has_data = False
        """The event being read has a `data` line."""
        self._after_cr = False
        self._is_begun = False
        """The first line is whole."""

    def feed(self, data: bytes, now_ns: int) -> None:
        """`data` follows what was fed before, and came at `now_ns`."""
        if (
            data.endswith(b"\n\n")
            and data.startswith(b"data:")
            and not self._line
            and not self._has_data
            and data.count(b"\n\n") == 1
            and b"\r" not in data
        ):
            self._is_begun, self._after_cr = True, False
            self._came(1, now_ns)  # one whole event: what a model server writes at a time
            return
        events = self._ended(self._lines(data))
        if events:
            self._came(events, now_ns)

    def _lines(self, data: bytes) -> list[bytes]:
        """Lines that end in `data`, each perhaps without its end; what follows them is kept."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]  # the second half of a line end
        self._after_cr = data.endswith(b"\r")
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = (self._line + data).split(b"\n")
        self._line = lines.pop()[:_KEPT_OF_LINE]
        if lines and not self._is_begun:
            self._is_begun = True
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
        return lines

    def _ended(self, lines: list[bytes]) -> int:
        """How many events end with these lines."""
        events = 0
        for line in lines:
            if not line:
                events += self._has_data
                self._has_data = False
            elif line.startswith(b"data:") or line == b"data":
                self._has_data = True
        return events

    def _came(self, events: int, now_ns: int) -> None:
        if self.last_ns:
            self.max_gap_ns = max(self.max_gap_ns, now_ns - self.last_ns)
        else:
            self.first_ns = now_ns
        self.last_ns = now_ns
        self.events += events
