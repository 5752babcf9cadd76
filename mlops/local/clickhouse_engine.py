"""The ClickHouse engine as a library (chdb), owned by this process alone.

Imported only by the process that serves it: the engine maps half a gigabyte, and a process that has
opened it must never fork.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from chdb.session import Session as _UntypedSession

from mlops.local.clickhouse_call import (
    BAD_ARGUMENTS,
    MAX_SESSION_TIMEOUT_S,
    SESSION_IS_LOCKED,
    SESSION_NOT_FOUND,
    TOO_MANY_SIMULTANEOUS_QUERIES,
    UNKNOWN_EXCEPTION,
    Answer,
    Call,
    EngineError,
)
from mlops.local.clickhouse_statement import output_format, returns_rows

MAX_SESSIONS = 64
"""Named sessions kept at once; each holds a connection and its temporary tables."""

_SERVER_SETTINGS: dict[str, object] = {
    "max_server_memory_usage": 2_000_000_000,
    "mark_cache_size": 100_000_000,
    "background_pool_size": 2,
}
"""Modest: the engine shares a small machine with everything else of a local stack."""

_QUERY_SETTINGS = {
    "max_memory_usage": "1500000000",
    "max_execution_time": "120",
    "max_result_bytes": "536870912",
}
"""One query may neither take all memory nor a thread for ever; answers are held whole (512 MiB)."""

_NAME = re.compile(r"\w+\Z", re.ASCII)
_ERROR_CODE = re.compile(r"Code:\s*(\d+)")


class CannotOpen(RuntimeError):
    """The directory is open in another process, or is not a database."""


Session: Any = _UntypedSession
"""chdb carries no types."""


@dataclass(slots=True)
class _Named:
    handle: Any
    timeout_s: float
    busy: bool
    last_used: float


class Engine:
    """Thread-safe: every call has a connection of its own, except calls of one named session."""

    def __init__(self, path: Path, config: Path | None = None) -> None:
        """Open or create the database directory `path`; `config` is ClickHouse's own file.

        Raises:
            CannotOpen: another process has it open, or the engine cannot start there.
        """
        for name in (path, config):
            if name is not None and set("?&") & set(str(name)):
                raise CannotOpen(f"{name}: a path may have neither a question mark nor an &")
        path.mkdir(parents=True, exist_ok=True)
        self._owner = _own(path)
        given = _SERVER_SETTINGS | ({} if config is None else {"config-file": config})
        options = "&".join(f"{name}={value}" for name, value in given.items())
        self._address = f"{path}?{options}"
        try:
            self._root = Session(self._address)
        except Exception as error:
            self._owner.close()
            raise CannotOpen(f"the engine cannot start in {path}: {error}") from error
        self._sessions: dict[str, _Named] = {}
        self._lock = Lock()
        self.timezone = self._scalar("SELECT timezone()")
        self.version = self._scalar("SELECT version()")

    def close(self) -> None:
        """Write down what is in memory, and let go of the directory; no statement may run."""
        with self._lock:
            for named in self._sessions.values():
                named.handle.close()
            self._sessions.clear()
        self._root.close()
        self._owner.close()

    def run(self, call: Call) -> Answer:
        """Run one statement; blocking.

        Raises:
            EngineError: the engine refused it, or the session cannot be had.
        """
        with self._handle(call) as handle:
            try:
                _prepare(handle, call)
                return _insert(handle, call) if call.insert is not None else _query(handle, call)
            except EngineError:
                raise
            except Exception as error:
                raise _translated(error) from error

    def _scalar(self, sql: str) -> str:
        return str(self._root.query(sql, "TSV").bytes().decode().strip())

    @contextmanager
    def _handle(self, call: Call) -> Iterator[Any]:
        if call.session_id:
            named = self._acquire(call)
            try:
                yield named.handle
            finally:
                with self._lock:
                    named.busy = False
                    named.last_used = time.monotonic()
            return
        handle = Session(self._address)
        try:
            yield handle
        finally:
            handle.close()

    def _acquire(self, call: Call) -> _Named:
        now = time.monotonic()
        with self._lock:
            self._expire(now)
            named = self._sessions.get(call.session_id)
            if named is None:
                named = self._open(call, now)
            if named.busy:
                raise EngineError.of(
                    SESSION_IS_LOCKED, f"session {call.session_id} is in use by another request"
                )
            named.busy = True
            named.timeout_s = min(call.session_timeout_s, MAX_SESSION_TIMEOUT_S)
            return named

    def _open(self, call: Call, now: float) -> _Named:
        if call.session_check:
            raise EngineError.of(SESSION_NOT_FOUND, f"session {call.session_id} is not open")
        if len(self._sessions) >= MAX_SESSIONS:
            raise EngineError.of(
                TOO_MANY_SIMULTANEOUS_QUERIES,
                f"{MAX_SESSIONS} sessions are open, the most this engine keeps",
            )
        named = _Named(Session(self._address), call.session_timeout_s, busy=False, last_used=now)
        self._sessions[call.session_id] = named
        return named

    def _expire(self, now: float) -> None:
        for name, named in list(self._sessions.items()):
            if not named.busy and now - named.last_used > named.timeout_s:
                named.handle.close()
                del self._sessions[name]


def _own(path: Path) -> BinaryIO:
    """Lock the directory, because the engine's own lock gives its reason only on stderr."""
    owner = (path / "owner.lock").open("wb")
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner.close()
        raise CannotOpen(
            f"{path} is open in another process; one process owns a database directory"
        ) from None
    return owner


def _prepare(handle: Any, call: Call) -> None:
    settings = {**_QUERY_SETTINGS, **call.settings}
    unfit = [name for name in settings if not _NAME.match(name)]
    if unfit:
        raise EngineError.of(BAD_ARGUMENTS, f"setting {unfit[0]!r} is not a name")
    if call.database:
        handle.query(f"USE {_quoted(call.database, '`')}")
    pairs = ", ".join(f"{name} = {_quoted(value, chr(39))}" for name, value in settings.items())
    handle.query(f"SET {pairs}")


def _insert(handle: Any, call: Call) -> Answer:
    """From a file in memory: of rows that are streamed into it (`send_insert`) the engine says that
    they are written although its disk was full.
    """
    assert call.insert is not None, "the caller has looked"
    with os.fdopen(os.memfd_create("insert", os.MFD_CLOEXEC), "wb") as file:
        file.write(call.data)
        file.flush()
        written = handle.query(call.insert.from_file(f"/proc/self/fd/{file.fileno()}"))
    summary = {
        "written_rows": str(written.rows_read()),
        "written_bytes": str(written.bytes_read()),
        "elapsed_ns": str(int(written.elapsed() * 1e9)),
    }
    return Answer(body=b"", summary=summary, output_format=None)


def _query(handle: Any, call: Call) -> Answer:
    result = handle.query(call.sql, call.default_format, params=dict(call.parameters) or None)
    summary = {
        "read_rows": str(result.storage_rows_read()),
        "read_bytes": str(result.storage_bytes_read()),
        "result_rows": str(result.rows_read()),
        "elapsed_ns": str(int(result.elapsed() * 1e9)),
    }
    answers = returns_rows(call.sql)
    return Answer(
        body=result.bytes(),
        summary=summary,
        output_format=output_format(call.sql, call.default_format) if answers else None,
    )


def _quoted(text: str, quote: str) -> str:
    return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote


def _translated(error: Exception) -> EngineError:
    text = str(error)
    found = _ERROR_CODE.search(text)
    if found is None:
        return EngineError.of(UNKNOWN_EXCEPTION, text)
    return EngineError(int(found.group(1)), text[found.start() :])
