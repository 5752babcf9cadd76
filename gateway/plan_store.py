"""Accepted plans on disk, one file per route, so that a restart finds them.

A file is replaced whole (temporary file, fsync, rename, fsync of the directory) and has mode 0600:
a plan may carry an upstream's credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from pathlib import Path
from threading import Thread

import msgspec

from gateway.plans import StoredPlan

STORE_TIMEOUT_S = 2.0
"""Longest wait for a disk that does not answer; callers give up on us after 3 s."""
FORMAT = 1


class BadPlanFile(ValueError):
    """A stored plan cannot be used. The gateway does not guess: it names the file and stops."""


class NotStored(OSError):
    """The disk did not take the plan."""


class _PlanFile(msgspec.Struct, kw_only=True):
    """Unknown fields are ignored, so that an older version reads what a newer one wrote."""

    format: int
    stored: StoredPlan


class StateTaken(ValueError):
    """Another gateway keeps its plans in this directory."""


class StateLock:
    """Held by the one gateway that writes to a state directory; given up when it ends.

    The lock belongs to the open file, so that an upgrade can hand it on without letting go.
    """

    descriptor: int

    def __init__(self, directory: Path, descriptor: int | None = None) -> None:
        """Take the lock, or take it over as `descriptor`.

        Raises:
            StateTaken: another gateway has it.
            OSError: the directory cannot be made, or written to.
        """
        if descriptor is None:
            try:
                directory.mkdir(parents=True, exist_ok=True)
                descriptor = _locked(directory)
            except OSError as exc:
                raise OSError(
                    f"state: {directory}: {exc.strerror}; expected a directory to write to, or a "
                    "place to make it"
                ) from exc
        self.descriptor = descriptor

    def claim(self) -> None:
        """Write down whose it is, for the error that another one gets."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let go of the directory, unless a successor holds the lock too."""
        os.close(self.descriptor)


def _locked(directory: Path) -> int:
    path = directory / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        pid = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StateTaken(
            f"state: {directory} is in use by another gateway (process {pid}); give each its own "
            "directory, or replace that one with --upgrade"
        ) from exc
    return descriptor


def read_plan(directory: Path, route: str) -> StoredPlan | None:
    """The route's plan; None where none was ever stored.

    Raises:
        BadPlanFile: the file is damaged or of another route or format.
    """
    path = _path(directory, route)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise BadPlanFile(f"{path}: cannot be read: {exc.strerror}") from exc
    try:
        file = msgspec.json.decode(data, type=_PlanFile)
    except msgspec.DecodeError as exc:
        raise BadPlanFile(
            f"{path}: not a stored plan: {exc}. Restore it from a backup, or remove it to "
            f"start route {route!r} from the gateway's file"
        ) from exc
    if file.format != FORMAT:
        raise BadPlanFile(f"{path}: expected format {FORMAT}, got {file.format}")
    if file.stored.plan.route != route:
        raise BadPlanFile(
            f"{path}: expected a plan of route {route!r}, got {file.stored.plan.route!r}"
        )
    return file.stored


def _path(directory: Path, route: str) -> Path:
    return directory / f"plan-{route}.json"


class PlanStore:
    """One directory of plans. One write at a time, so they land in order."""

    def __init__(self, directory: Path) -> None:
        """Make the directory where it is missing. Blocks; at start only.

        Raises:
            OSError: it cannot be made.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._late: asyncio.Future[None] | None = None
        """The last write; while it hangs no other is queued behind it."""

    def load(self, route: str) -> StoredPlan | None:
        """`read_plan` of this directory."""
        return read_plan(self._directory, route)

    async def save(self, stored: StoredPlan) -> None:
        """Return once the plan would survive a power cut.

        Raises:
            NotStored: it did not get there; what was stored before may still stand.
        """
        if self._late is not None and not self._late.done():
            raise NotStored(f"{self._directory}: the disk has not taken an earlier plan yet")
        writing = self._late = asyncio.get_running_loop().create_future()
        # A daemon, so that a disk that hangs for good cannot keep the process from ending.
        Thread(
            target=self._write_for, args=(stored, writing), name="plan store", daemon=True
        ).start()
        try:
            await asyncio.wait_for(asyncio.shield(writing), STORE_TIMEOUT_S)
        except TimeoutError as exc:
            writing.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise NotStored(
                f"{self._directory}: the disk did not take the plan within {STORE_TIMEOUT_S:g} s"
            ) from exc
        except OSError as exc:
            raise NotStored(f"{self._directory}: the plan was not stored: {exc.strerror}") from exc

    def save_now(self, stored: StoredPlan) -> None:
        """`save` for the start, when nothing is served yet. Blocks."""
        try:
            self._write(stored)
        except OSError as exc:
            raise NotStored(f"{self._directory}: the plan was not stored: {exc.strerror}") from exc

    def _write_for(self, stored: StoredPlan, writing: asyncio.Future[None]) -> None:
        failure: OSError | None = None
        try:
            self._write(stored)
        except OSError as exc:
            failure = exc
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            writing.get_loop().call_soon_threadsafe(_settle, writing, failure)

    def _write(self, stored: StoredPlan) -> None:
        data = msgspec.json.format(
            msgspec.json.encode(_PlanFile(format=FORMAT, stored=stored)), indent=2
        )
        path = _path(self._directory, stored.plan.route)
        temporary = path.with_suffix(".json.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _settle(writing: asyncio.Future[None], failure: OSError | None) -> None:
    if failure is None:
        writing.set_result(None)
    else:
        writing.set_exception(failure)
