"""The keys of the gateway's file about watching it, and what they may say."""

from __future__ import annotations

import msgspec

from gateway.file_values import FileKeys, Percent
from gateway.settings import AccessLogSettings, ObserveSettings

TRACE_WORDS = ("pass", "make")


class AccessLogFile(FileKeys):
    """`observe.access_log`."""

    path: str
    sample: Percent = msgspec.field(default_factory=lambda: Percent(100))


class ObserveFile(FileKeys):
    """`observe`: traces, `Server-Timing` and the access log."""

    trace: str = "pass"
    trace_sample: Percent = msgspec.field(default_factory=lambda: Percent(0))
    server_timing: bool = False
    served_by: bool = True
    access_log: AccessLogFile | None = None


def observe_settings(file: ObserveFile) -> ObserveSettings:
    """Raises ValueError starting with the key's path."""
    if file.trace not in TRACE_WORDS:
        raise ValueError(f"observe.trace: expected pass or make, got {file.trace!r}")
    if file.trace == "pass" and file.trace_sample.percent > 0:
        raise ValueError(
            "observe.trace_sample: says how many of the traces begun here are sampled; "
            "expected trace: make beside it"
        )
    access_log = None
    if file.access_log is not None:
        if not file.access_log.path:
            raise ValueError("observe.access_log.path: expected a file, or - for standard output")
        access_log = AccessLogSettings(
            path=file.access_log.path, sample_percent=file.access_log.sample.percent
        )
    return ObserveSettings(
        makes_traces=file.trace == "make",
        trace_sample_percent=file.trace_sample.percent,
        server_timing=file.server_timing,
        served_by=file.served_by,
        access_log=access_log,
    )
