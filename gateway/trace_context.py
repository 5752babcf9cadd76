"""W3C Trace Context: which trace a request belongs to. Pure.

https://www.w3.org/TR/trace-context/ A header that is not valid counts as none, and takes its
`tracestate` with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

HEADER: Final = b"traceparent"
HEADER_BYTES: Final = 55
"""Of the version in use; a later one may go on after a `-`."""
HEADERS: Final = frozenset({b"traceparent", b"tracestate"})

_TRACEPARENT: Final = re.compile(
    rb"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})"
    rb"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
_SAMPLED: Final = 1


class Parent(NamedTuple):
    """What a `traceparent` says."""

    trace_id: bytes
    """32 hexadecimal digits, not all of them 0."""
    span_id: bytes
    """Of who sent it; 16 digits."""
    flags: int

    @property
    def is_sampled(self) -> bool:
        """Whether the sender keeps this trace."""
        return bool(self.flags & _SAMPLED)


class Joined(NamedTuple):
    """A request as a span of its own."""

    header: bytes
    """What goes to the upstream as `traceparent`."""
    recorded: bytes
    """The same, and after it `-` and the span that sent us the request, where there was one."""


def parse(header: bytes) -> Parent | None:
    """None: it is not valid, or there is none."""
    found = _TRACEPARENT.fullmatch(header)
    if found is None or (found["version"] == b"00" and found["more"]):
        return None
    return Parent(found["trace"], found["span"], int(found["flags"], 16))


def parse_recorded(recorded: bytes) -> tuple[Parent, bytes] | None:
    """The span of a recorded exchange and the span that it was called by, empty if by none.

    `recorded` is a `Joined.recorded`; a plain `traceparent` that was only passed on is no span of
    ours, and gives None.
    """
    span, rest = parse(recorded[:HEADER_BYTES]), recorded[HEADER_BYTES:]
    return (span, rest[1:]) if span is not None and rest.startswith(b"-") else None


def join(header: bytes, bits: Callable[[int], int], *, samples_new: bool) -> Joined:
    """Become a span of the trace in `header`, or of a new one, which is sampled if so told.

    `bits` gives as many random bits as it is asked for. The sender's decision to sample is kept.
    """
    parent = parse(header)
    if parent is None:
        flags = _SAMPLED if samples_new else 0
        made = b"00-%032x-%016x-%02x" % (bits(128) or 1, bits(64) or 1, flags)
        return Joined(made, made + b"-")
    made = b"00-%b-%016x-%02x" % (parent.trace_id, bits(64) or 1, parent.flags & _SAMPLED)
    return Joined(made, b"%b-%b" % (made, parent.span_id))
