"""The model server's metrics; HTTP and GenAI ones are named as OpenTelemetry does."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mlops.serving.batching import Batched

REQUEST_BUCKETS_S: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
"""OpenTelemetry's advice for http.server.request.duration."""
LOAD_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
WAIT_BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)

OPERATIONS: Final = {"/v1/embeddings": "embeddings", "/v1/chat/completions": "chat"}
"""Routes that OpenTelemetry has a GenAI operation for."""


class Metrics:
    """Labels are routes, methods, statuses and the served model's name: bounded all."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._children: dict[tuple[str, str, int, str], tuple[Histogram, ...]] = {}
        """By what a request was: looking a label up costs more than observing."""
        self._requests = Histogram(
            "http_server_request_duration_seconds",
            "Requests answered, until the last byte was handed over.",
            ["http_request_method", "http_route", "http_response_status_code"],
            buckets=REQUEST_BUCKETS_S,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "http_server_active_requests", "Requests under way.", registry=self.registry
        )
        self._operations = Histogram(
            "gen_ai_server_request_duration_seconds",
            "Requests answered by a model, by what was asked of it.",
            ["gen_ai_operation_name", "gen_ai_request_model", "error_type"],
            buckets=REQUEST_BUCKETS_S,
            registry=self.registry,
        )
        self._batches = Histogram(
            "model_server_batch_texts",
            "Texts in one call of the model.",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self._batch_requests = Counter(
            "model_server_batched_requests",
            "Requests (or parts of long ones) that were answered in batches.",
            registry=self.registry,
        )
        self._batch_wait = Histogram(
            "model_server_batch_wait_seconds",
            "Longest wait of a request in a batch, until the model was called.",
            buckets=WAIT_BUCKETS_S,
            registry=self.registry,
        )
        self.waiting_texts = Gauge(
            "model_server_waiting_texts", "Texts in no batch yet.", registry=self.registry
        )
        self._loads = Histogram(
            "model_server_model_load_duration_seconds",
            "Versions fetched, loaded and warmed up, or not.",
            ["result"],
            buckets=LOAD_BUCKETS_S,
            registry=self.registry,
        )
        self.loaded = Gauge(
            "model_server_loaded_models", "Versions in memory.", registry=self.registry
        )
        self._serving = Gauge(
            "model_server_serving_info",
            "1 for the version that serves.",
            ["model", "version"],
            registry=self.registry,
        )

    def answered(self, method: str, route: str, status: int, model: str, duration_s: float) -> None:
        """One request; `route` is a pattern of ours, empty where nothing is served."""
        key = (method, route, status, model)
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = self._histograms(*key)
        for child in children:
            child.observe(duration_s)

    def _histograms(
        self, method: str, route: str, status: int, model: str
    ) -> tuple[Histogram, ...]:
        requests = self._requests.labels(method, route, status)
        if (operation := OPERATIONS.get(route)) is None:
            return (requests,)
        error = str(status) if status >= 400 else ""
        return requests, self._operations.labels(operation, model, error)

    def batched(self, one: Batched) -> None:
        """One call of the model."""
        self._batches.observe(one.texts)
        self._batch_requests.inc(one.requests)
        self._batch_wait.observe(one.waited_s)

    def load_ended(self, result: str, duration_s: float) -> None:
        """`result` is ok or failed; a version that was in memory still is no load."""
        self._loads.labels(result).observe(duration_s)

    def serves(self, model: str, version: str, loaded: int) -> None:
        """Which version serves, and how many are in memory."""
        self._serving.clear()
        self._serving.labels(model, version).set(1)
        self.loaded.set(loaded)

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self.registry)
