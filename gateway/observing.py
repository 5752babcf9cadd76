"""What the request path does beyond its work so that somebody can watch it; off unless asked for.

A worker that is asked for none of it has no `Observing`, and pays one comparison for each request.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from gateway import trace_context
from gateway.access_log import AccessLog
from gateway.framing import remove
from gateway.plain import parts_of
from gateway.server_timing import ASKED_BY
from gateway.settings import ObserveSettings

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.lanes import Lane


class Observing:
    """Traces, timings and the access log of one worker."""

    def __init__(
        self, settings: ObserveSettings, access_log: AccessLog | None, randomness: Random
    ) -> None:
        self._makes_traces = settings.makes_traces
        self._trace_sample = settings.trace_sample_percent / 100
        self._server_timing = settings.server_timing
        self._log_sample = settings.access_log.sample_percent / 100 if settings.access_log else 0.0
        self._access_log = access_log
        self._random = randomness

    @classmethod
    def open(cls, settings: ObserveSettings, randomness: Random) -> Observing | None:
        """None: nothing of it is asked for.

        Raises:
            OSError: the access log cannot be opened; names it.
        """
        if replace(settings, served_by=True) == ObserveSettings():  # that header is the lane's
            return None
        log = AccessLog(settings.access_log.path) if settings.access_log is not None else None
        return cls(settings, log, randomness)

    @property
    def access_log_dropped(self) -> int:
        """Lines that were not written, since the start."""
        return self._access_log.dropped if self._access_log is not None else 0

    def close(self) -> None:
        """Write what still waits."""
        if self._access_log is not None:
            self._access_log.close()

    def begun(self, exchange: Exchange) -> None:
        """An arm is assigned, and nothing has been sent yet."""
        if self._makes_traces:
            self._join_trace(exchange)
        if self._server_timing:
            exchange.is_timed = exchange.headers.get(ASKED_BY, b"0") != b"0"

    def ended(self, exchange: Exchange, lane: Lane) -> None:
        """The record is closed, and the last byte not written yet."""
        log = self._access_log
        if log is None:
            return
        if exchange.outcome == 0 and self._random.random() >= self._log_sample:
            return
        log.note(exchange, lane)

    def _join_trace(self, exchange: Exchange) -> None:
        """Put our own `traceparent` into the head that the upstream gets."""
        header = exchange.headers.get(trace_context.HEADER)
        joined = trace_context.join(
            header or b"",
            self._random.getrandbits,
            samples_new=self._random.random() < self._trace_sample,
        )
        exchange.traceparent = joined.recorded
        line = (trace_context.HEADER, b": ", joined.header, b"\r\n")
        if header is None and exchange.raw_head:
            exchange.raw_head += b"".join(line)
            return
        parts = parts_of(exchange.raw_head) if exchange.raw_head else list(exchange.parts)
        exchange.raw_head = b""
        if header is not None:
            # A new trace's state is not that of the header which was not valid.
            is_same = trace_context.parse(header) is not None
            remove(parts, frozenset({trace_context.HEADER}) if is_same else trace_context.HEADERS)
        parts += line
        exchange.parts = parts
