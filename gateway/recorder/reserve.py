"""Room for the recorder's own notes on a disk that the spool itself may have filled."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from gateway.spool.segments import FILE_MODE

RESERVE_NAME = "reserve"
RESERVE_BYTES = 256 * 1024
"""Cursors of many workers, of a block or two each."""


class Reserve:
    """A file that is removed when the disk is full: without a cursor nothing could be freed."""

    def __init__(self, spool: Path) -> None:
        self._path = spool / RESERVE_NAME

    def take(self) -> None:
        """Allocate it, where it is not and there is room."""
        with contextlib.suppress(OSError):
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE
            )
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            except OSError:
                self._path.unlink()
            finally:
                os.close(descriptor)

    def give(self) -> None:
        """Make room."""
        self._path.unlink(missing_ok=True)
