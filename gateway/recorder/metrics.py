"""What the recorder counts, as Prometheus reads it. No ids as labels."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from mlops.service.version import program_version


class RecorderMetrics:
    """One process's counters, in a registry of their own."""

    def __init__(
        self,
        lag_s: Callable[[], float],
        spool_bytes: Callable[[], float],
        backlogs: Callable[[], float],
        tasks: Callable[[], float],
    ) -> None:
        self.registry = CollectorRegistry()
        self.rows = self._counter("rows", "Rows that the feature store acknowledged")
        self.batches = self._counter("batches", "Ranges of records acknowledged")
        self.dead_letters = self._counter("dead_letters", "Records stored as dead letters")
        self.lost_letters = self._counter("lost_letters", "Dead letters refused themselves")
        self.retries = self._counter("retries", "Inserts repeated as the feature store was away")
        self.splits = self._counter("splits", "Refused batches that were split in two")
        self.cuts = self._counter("cuts", "Places where a spool held bytes that were no record")
        self.spans = self._counter("spans", "Spans of stored rows handed to the exporter")
        self.spans_exported = self._counter("spans_exported", "Spans that the collector took")
        self.spans_failed = self._counter("spans_failed", "Spans that the collector did not take")
        self.missing = Counter(
            "recorder_missing_records",
            "Sequence numbers that a spool skipped, by index of the worker",
            ["worker"],
            registry=self.registry,
        )
        self.bad_files = self._counter(
            "bad_config_files", "Times the gateway's file was changed to one that cannot be used"
        )
        Gauge(
            "recorder_build_info", "Which version of the program this is", ["version"],
            registry=self.registry,
        ).labels(program_version()).set(1)  # fmt: skip
        self.unreadable = self._counter("unreadable_workers", "Spools given up until a restart")
        for name, text, read in (
            ("spool_lag_seconds", "Age of the oldest record read and not acknowledged", lag_s),
            ("spool_bytes", "Size of all segments that are there", spool_bytes),
            ("recorder_tasks", "Of the event loop, not ended", tasks),
            ("recorder_backlogs", "Workers that are gone and not yet read to their end", backlogs),
        ):
            Gauge(name, text, registry=self.registry).set_function(read)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"recorder_{name}", text, registry=self.registry)
