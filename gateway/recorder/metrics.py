"""What the recorder counts, as Prometheus reads it. No ids as labels."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class RecorderMetrics:
    """One process's counters, in a registry of their own."""

    def __init__(self, lag_s: Callable[[], float]) -> None:
        """`lag_s` gives the age of the oldest record that was read and is not acknowledged."""
        self.registry = CollectorRegistry()
        self.rows = self._counter("rows", "Rows that the feature store acknowledged")
        self.batches = self._counter("batches", "Ranges of records acknowledged")
        self.dead_letters = self._counter("dead_letters", "Records stored as dead letters")
        self.lost_letters = self._counter("lost_letters", "Dead letters refused themselves")
        self.retries = self._counter("retries", "Inserts repeated as the feature store was away")
        self.splits = self._counter("splits", "Refused batches that were split in two")
        self.cuts = self._counter("cuts", "Places where a spool held bytes that were no record")
        self.missing = self._counter("missing_records", "Sequence numbers that a spool skipped")
        self.unreadable = self._counter("unreadable_workers", "Spools given up until a restart")
        lag = Gauge(
            "recorder_spool_lag_seconds",
            "Age of the oldest record that is read and not acknowledged",
            registry=self.registry,
        )
        lag.set_function(lag_s)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"recorder_{name}", text, registry=self.registry)
