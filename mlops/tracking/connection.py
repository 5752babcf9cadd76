"""One explicit client of an MLflow server, and its errors in our words. No global state."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import requests
from mlflow import MlflowClient
from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT
from mlflow.exceptions import MlflowException, RestException

from mlops.config import MlflowSettings
from mlops.config.values import without_user
from mlops.tracking.errors import TrackingRefused, TrackingUnavailable

PROBE_TIMEOUT_S: Final = 3.0
"""A server that answers its health check more slowly than that counts as away."""

PROBE_VALID_S: Final = 5.0
"""How long a good answer stands, so that a training loop does not ask before every metric."""


class MlflowConnection:
    """Safe in many threads. MLflow's own client repeats a failed call for minutes; asking for the
    server's health first turns an absent server into an error within seconds."""

    def __init__(self, settings: MlflowSettings) -> None:
        """Nothing is connected yet.

        Raises:
            TrackingRefused: MLflow knows no such kind of address.
        """
        self.settings = settings
        if not MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.is_set():  # type: ignore[no-untyped-call]
            # It prints addresses when a run ends; what our commands print may be read by programs.
            MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)  # type: ignore[no-untyped-call]
        try:
            self.client = MlflowClient(settings.tracking_uri, settings.registry_uri)
        except MlflowException as error:
            raise _refused(f"MLflow at {settings.tracking_uri}", error) from error
        self._lock = threading.Lock()
        self._good_until: dict[str, float] = {}

    @contextmanager
    def calling(self, what: str, *, registry: bool = False) -> Iterator[MlflowClient]:
        """Run calls of the client.

        Raises:
            TrackingUnavailable: the server is away.
            TrackingRefused: it refused the call.
        """
        uri = self.settings.registry_uri if registry else self.settings.tracking_uri
        self._require_answer(what, uri)
        try:
            yield self.client
        except RestException as error:
            if error.get_http_status_code() >= 500:  # type: ignore[no-untyped-call]
                raise _unavailable(what, uri, error) from error
            raise _refused(what, error) from error
        except MlflowException as error:
            self._forget(uri)
            if self._answers(uri):
                raise _refused(what, error) from error
            raise _unavailable(what, uri, error.message) from error
        except (requests.RequestException, OSError) as error:
            self._forget(uri)
            raise _unavailable(what, uri, error) from error

    def is_away(self) -> bool:
        """Whether the tracking server does not answer now."""
        return not self._answers(self.settings.tracking_uri)

    def _require_answer(self, what: str, uri: str) -> None:
        if not self._answers(uri):
            why = f"does not answer within {PROBE_TIMEOUT_S:g} s"
            raise _unavailable(what, uri, why)

    def _answers(self, uri: str) -> bool:
        if not uri.startswith(("http://", "https://")):
            return True  # a database of its own: no server in between
        now_s = time.monotonic()
        with self._lock:
            if self._good_until.get(uri, 0.0) > now_s:
                return True
        try:
            answer = requests.get(f"{uri.rstrip('/')}/health", timeout=PROBE_TIMEOUT_S)
        except requests.RequestException:
            return False
        if answer.status_code >= 500:
            return False
        with self._lock:
            self._good_until[uri] = now_s + PROBE_VALID_S
        return True

    def _forget(self, uri: str) -> None:
        with self._lock:
            self._good_until.pop(uri, None)


def _unavailable(what: str, uri: str, why: object) -> TrackingUnavailable:
    return TrackingUnavailable(without_user(f"{what}: MLflow at {uri}: {why}"))


def _refused(what: str, error: MlflowException) -> TrackingRefused:
    return TrackingRefused(without_user(f"{what}: {error.message}"))
