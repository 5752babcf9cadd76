"""Operations on disk, in order, until MLflow has them: one file of lines, and the ids learned."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

import msgspec

from mlops.tracking.errors import TrackingRefused
from mlops.tracking.operations import Create, Operation, Upload

MAX_QUEUED_BYTES: Final = 256 * 1024**2
"""Of the lines: a million metrics. Files that wait lie beside them and are bounded by the disk."""

Send = Callable[[Operation, str | None], str | None]
"""Sends one operation of the run with that id of MLflow's; a new run's id where it is one."""

_decode = msgspec.json.Decoder(Operation).decode


class QueueFull(RuntimeError):
    """The queue holds all that it may; nothing was added."""


class OperationQueue:
    """One folder. Safe in many threads and processes: a lock file is held while it changes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lines = directory / "operations.jsonl"
        self._ids = directory / "ids.json"
        self._thread_lock = threading.RLock()
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def append(self, operation: Operation) -> None:
        """Add one; of a file or folder to upload a copy is kept.

        Raises:
            QueueFull: there is no room.
        """
        with self._locked():
            if self._lines.exists() and self._lines.stat().st_size > MAX_QUEUED_BYTES:
                raise QueueFull(
                    f"{self._lines} holds more than {MAX_QUEUED_BYTES:,} bytes of what MLflow has "
                    "not had yet; flush it when MLflow is back"
                )
            if isinstance(operation, Upload):
                operation = self._keep(operation)
            with self._lines.open("a+b") as file:
                _cut_half_a_line(file)
                file.write(msgspec.json.encode(operation) + b"\n")
                file.flush()
                os.fsync(file.fileno())

    def __len__(self) -> int:
        """Operations that wait."""
        with self._locked():
            return len(self._pending())

    def drain(self, send: Send) -> int:
        """Send everything in order; how many were sent.

        An operation that MLflow refuses is put aside in `refused.jsonl`, since it would hold up all
        behind it for ever; the first refusal is raised once the rest has been sent.

        Raises:
            TrackingUnavailable: MLflow went away; this operation and all after it stay.
            TrackingRefused: see above.
        """
        with self._locked():
            pending = self._pending()
            done = 0
            refusal: TrackingRefused | None = None
            try:
                for operation in pending:
                    try:
                        self._send(operation, send)
                    except TrackingRefused as error:
                        self._put_aside(operation)
                        refusal = refusal or error
                    done += 1
            finally:
                if done:
                    self._rewrite(pending[done:])
            if refusal is not None:
                raise refusal
            return done

    def known_id(self, run_id: str) -> str | None:
        """MLflow's id of a run with a local one, once it is known."""
        with self._locked():
            return self._read_ids().get(run_id)

    def _send(self, operation: Operation, send: Send) -> None:
        ids = self._read_ids()
        if isinstance(operation, Create):
            made = send(operation, None)
            assert made is not None, "making a run gives its id"
            ids[operation.run_id] = made
            self._write(self._ids, msgspec.json.encode(ids))
            return
        send(operation, ids.get(operation.run_id, operation.run_id))
        if isinstance(operation, Upload):
            shutil.rmtree(Path(operation.path).parent, ignore_errors=True)

    def _put_aside(self, operation: Operation) -> None:
        with (self._directory / "refused.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(operation) + b"\n")

    def _keep(self, operation: Upload) -> Upload:
        source = Path(os.path.abspath(operation.path))  # noqa: PTH100  `.` has a name, links stay
        folder = self._directory / "files" / uuid4().hex
        folder.mkdir(parents=True)
        if source.is_dir():
            shutil.copytree(source, folder / source.name)
        else:
            shutil.copy2(source, folder / source.name)
        return msgspec.structs.replace(operation, path=str(folder / source.name))

    def _pending(self) -> list[Operation]:
        if not self._lines.exists():
            return []
        content = self._lines.read_bytes()
        return [_decode(line) for line in content[: _end_of_lines(content)].splitlines()]

    def _rewrite(self, operations: list[Operation]) -> None:
        lines = [msgspec.json.encode(operation) + b"\n" for operation in operations]
        self._write(self._lines, b"".join(lines))

    def _read_ids(self) -> dict[str, str]:
        if not self._ids.exists():
            return {}
        return msgspec.json.decode(self._ids.read_bytes(), type=dict[str, str])

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._thread_lock, (self._directory / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _cut_half_a_line(file: BinaryIO) -> None:
    """Left by a writer that was killed, or had no room: it was never acknowledged."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 1))
    if file.read() in {b"", b"\n"}:
        return
    file.seek(0)
    file.truncate(_end_of_lines(file.read()))


def _end_of_lines(content: bytes) -> int:
    return content.rfind(b"\n") + 1
