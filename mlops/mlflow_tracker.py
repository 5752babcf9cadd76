"""Training runs in MLflow: parameters, metrics, files, datasets, and an end with the right status.

```python
tracker = RAGModelTracker()
with tracker.training_run("embedding_model_v1") as run_id:
    tracker.log_metrics(run_id, {"mrr": 0.53}, step=1)
```
"""

from __future__ import annotations

import atexit
import math
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from mlops.config import MlflowSettings, read_config
from mlops.tracking.connection import MlflowConnection
from mlops.tracking.errors import TrackingError, TrackingRefused, TrackingUnavailable
from mlops.tracking.operations import (
    Create,
    End,
    Log,
    LogDataset,
    Operation,
    Upload,
    create,
    perform,
)
from mlops.tracking.queue import OperationQueue, QueueFull

__all__ = [
    "QueueFull",
    "RAGModelTracker",
    "RunStatus",
    "TrackingError",
    "TrackingRefused",
    "TrackingUnavailable",
    "WhenAway",
]

QUEUE_DIRECTORY: Final = Path("var/mlflow-queue")
GIT_TIMEOUT_S: Final = 5.0
"""Longest wait for git to name the commit; without an answer the run has no such tag."""

DataWindow = tuple[datetime, datetime]
"""From and until, of the data that a run was trained on."""


class RunStatus(StrEnum):
    """How a run ends; MLflow's words."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class WhenAway(StrEnum):
    """What happens while MLflow does not answer."""

    RAISE = "raise"
    """`TrackingUnavailable`, within seconds."""
    QUEUE = "queue"
    """Everything is kept on this disk and sent when MLflow is back, or by `flush`."""


class RAGModelTracker:
    """Safe in many threads. Runs that were left open are ended when the process ends."""

    def __init__(
        self,
        settings: MlflowSettings | None = None,
        *,
        when_away: WhenAway = WhenAway.RAISE,
        queue_dir: Path = QUEUE_DIRECTORY,
    ) -> None:
        """`settings` default to what `MLOPS_MLFLOW_*` says. Nothing is connected yet.

        Raises:
            ConfigError: a setting is unknown or does not fit.
            TrackingRefused: MLflow knows no such kind of address.
        """
        self.settings = settings or read_config().mlflow
        self._connection = MlflowConnection(self.settings)
        self._queue = OperationQueue(queue_dir) if when_away is WhenAway.QUEUE else None
        self._open: set[str] = set()
        self._lock = threading.Lock()
        atexit.register(_end_open_runs, weakref.ref(self))

    # ---- runs -----------------------------------------------------------------------------------

    def start_training_run(
        self,
        name: str,
        *,
        tags: Mapping[str, str] | None = None,
        data_window: DataWindow | None = None,
        key: str | None = None,
    ) -> str:
        """Begin a run; its id. It is tagged with the commit that the working directory is at.

        With a `key` that a run of the experiment began with before, that run is gone on with.

        Raises:
            TrackingUnavailable: MLflow does not answer, and nothing is queued.
            QueueFull: it does not, and the queue has no room.
            ValueError: the name is empty, or the data window has no zone or ends before it begins.
        """
        if not name:
            raise ValueError("the run's name is empty; expected a name such as embedding_model_v1")
        operation = Create(
            run_id=f"local-{key or uuid4().hex}",
            experiment=self.settings.experiment_name,
            name=name,
            started_ms=_now_ms(),
            tags={**_commit_tags(), **_window_tags(data_window), **dict(tags or {})},
        )
        run_id = self._begin(operation)
        with self._lock:
            self._open.add(run_id)
        return run_id

    @contextmanager
    def training_run(
        self,
        name: str,
        *,
        tags: Mapping[str, str] | None = None,
        data_window: DataWindow | None = None,
    ) -> Iterator[str]:
        """A run around a block of code: FINISHED, or FAILED where it raises, or KILLED.

        What the block raises comes out, also where MLflow has gone away meanwhile.
        """
        run_id = self.start_training_run(name, tags=tags, data_window=data_window)
        try:
            yield run_id
        except BaseException as error:
            killed = isinstance(error, KeyboardInterrupt | SystemExit)
            with _noted_in(error):
                self.end_run(run_id, RunStatus.KILLED if killed else RunStatus.FAILED)
            raise
        self.end_run(run_id, RunStatus.FINISHED)

    def end_run(self, run_id: str, status: RunStatus = RunStatus.FINISHED) -> None:
        """End a run; ending it again changes its status."""
        self._do(End(run_id=run_id, status=status, at_ms=_now_ms()))
        with self._lock:
            self._open.discard(run_id)

    # ---- what is logged -------------------------------------------------------------------------

    def log_parameters(self, run_id: str, parameters: Mapping[str, object]) -> None:
        """Parameters by name; they are kept as text. One that was logged cannot be changed.

        Raises:
            TrackingRefused: MLflow does not take a name or a value, or it was logged otherwise.
        """
        texts = {name: str(value) for name, value in parameters.items()}
        self._do(Log(run_id=run_id, at_ms=_now_ms(), parameters=texts))

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Numbers by name, of one step (an epoch, say).

        Raises:
            ValueError: a value is no finite number; nothing was logged.
        """
        for name, value in metrics.items():
            if isinstance(value, bool) or not math.isfinite(value):
                raise ValueError(f"metric {name!r} is {value!r}, expected a finite number")
        values = {name: float(value) for name, value in metrics.items()}
        self._do(Log(run_id=run_id, at_ms=_now_ms(), step=step, metrics=values))

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Tags by name; one that was set before is replaced."""
        self._do(Log(run_id=run_id, at_ms=_now_ms(), tags=dict(tags)))

    def log_artifact(self, run_id: str, path: Path | str, artifact_path: str | None = None) -> None:
        """A file, or a folder with all in it, under `artifact_path` of the run's artifacts.

        Raises:
            FileNotFoundError: there is no such file or folder.
        """
        if not Path(path).exists():
            raise FileNotFoundError(f"artifact {str(path)!r} does not exist")
        self._do(Upload(run_id=run_id, path=str(path), artifact_path=artifact_path))

    def log_dataset(
        self,
        run_id: str,
        *,
        name: str,
        source: str,
        digest: str,
        rows: int,
        context: str = "training",
    ) -> None:
        """What the run was trained or measured on: where it lies and how it is told from others.

        `digest` has at most 36 characters (MLflow's bound).
        """
        self._do(
            LogDataset(
                run_id=run_id, name=name, digest=digest, source=source, rows=rows, context=context
            )
        )

    # ---- the queue ------------------------------------------------------------------------------

    def flush(self) -> int:
        """Send what is queued; how many operations were sent.

        Raises:
            TrackingUnavailable: MLflow is still away; everything unsent is kept.
        """
        return self._queue.drain(self._send) if self._queue is not None else 0

    @property
    def queued(self) -> int:
        """Operations that MLflow has not had yet."""
        return len(self._queue) if self._queue is not None else 0

    def mlflow_run_id(self, run_id: str) -> str | None:
        """MLflow's id of a run that began while it was away; None until it has been sent."""
        if self._queue is None or not run_id.startswith("local-"):
            return run_id
        return self._queue.known_id(run_id)

    def close(self, status: RunStatus = RunStatus.FINISHED) -> None:
        """End every run that is still open. Safe to repeat.

        Raises:
            TrackingUnavailable: MLflow does not answer; what was not ended stays open.
            TrackingRefused: it refused one, deleted by somebody, say; the others have been ended.
        """
        with self._lock:
            still_open = sorted(self._open)
        refusal: TrackingRefused | None = None
        for run_id in still_open:
            try:
                self.end_run(run_id, status)
            except TrackingRefused as error:
                refusal = refusal or error
                with self._lock:
                    self._open.discard(run_id)
        if refusal is not None:
            raise refusal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close(RunStatus.FINISHED)
            return
        with _noted_in(error):
            self.close(RunStatus.FAILED)

    def _begin(self, operation: Create) -> str:
        if self._queue is None:
            with self._connection.calling(f"start run {operation.name!r}") as client:
                return create(client, operation)
        self._do(operation)
        return self._queue.known_id(operation.run_id) or operation.run_id

    def _do(self, operation: Operation) -> None:
        if self._queue is None:
            self._send(operation, operation.run_id)
            return
        self._queue.append(operation)
        if not self._connection.is_away():
            try:
                self._queue.drain(self._send)
            except TrackingUnavailable:
                return  # it went away just now; what is unsent is kept

    def _send(self, operation: Operation, run_id: str | None) -> str | None:
        what = f"{type(operation).__name__} of run {run_id or operation.run_id}"
        with self._connection.calling(what) as client:
            if isinstance(operation, Create):
                return create(client, operation)
            assert run_id is not None, "every other operation is of a run that exists"
            perform(client, operation, run_id)
        return run_id


@contextmanager
def _noted_in(error: BaseException) -> Iterator[None]:
    """What went wrong first is what the caller hears of; that its run could not be ended is a note
    beside it."""
    try:
        yield
    except (TrackingError, QueueFull) as failure:
        error.add_note(f"its run in MLflow could not be ended: {failure}")


def _end_open_runs(tracker: weakref.ref[RAGModelTracker]) -> None:
    """At the end of the process: after an uncaught exception what is open has failed."""
    still_there = tracker()
    if still_there is None:
        return
    failed = getattr(sys, "last_value", None) is not None
    try:
        still_there.close(RunStatus.FAILED if failed else RunStatus.FINISHED)
    except (TrackingError, QueueFull) as error:
        sys.stderr.write(f"runs could not be ended: {error}\n")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _window_tags(window: DataWindow | None) -> dict[str, str]:
    if window is None:
        return {}
    since, until = window
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError(f"the data window {since} to {until} has no time zone; expected one")
    if since > until:
        raise ValueError(f"the data window begins at {since} and ends before, at {until}")
    return {"data.since": since.isoformat(), "data.until": until.isoformat()}


def _commit_tags() -> dict[str, str]:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],  # noqa: S607  whichever git the user has
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"mlflow.source.git.commit": found.stdout.strip()}
