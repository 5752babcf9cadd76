"""Chunks that were downloaded, kept on this machine up to a size; the longest unused go first."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from mlops.artifact_store.chunks import is_content
from mlops.artifact_store.manifest import Chunk

SWEEPS: Final = 4
"""Trims while one whole limit is downloaded: the folder is over it by a quarter at the most."""


class ChunkCache:
    """A folder that several processes may share: files appear by renaming, and each is checked
    when it is read. Disk errors only cost the speed of the cache."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        """`limit_bytes` 0 keeps nothing."""
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._unswept_bytes = 0

    def get(self, chunk: Chunk) -> bytes | None:
        """The content, if it is here and whole."""
        path = self._path(chunk)
        try:
            content = path.read_bytes()
            if not is_content(chunk, content):
                path.unlink()
                return None
            os.utime(path)  # used just now
        except OSError:
            return None
        return content

    def put(self, chunk: Chunk, content: bytes) -> None:
        """Keep it, if it fits."""
        if chunk.size > self._limit_bytes:
            return
        path = self._path(chunk)
        fresh = path.with_name(f"{path.name}.{uuid4().hex}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(content)
            fresh.replace(path)
        except OSError:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            return
        self._unswept_bytes += chunk.size
        if self._unswept_bytes > self._limit_bytes // SWEEPS:
            self.trim()

    def clear(self) -> int:
        """Give the disk back; how many bytes that was."""
        return self._trim_to(0)

    def trim(self) -> int:
        """Delete what is over the limit; how many bytes went. Called after a download."""
        return self._trim_to(self._limit_bytes)

    def _trim_to(self, limit_bytes: int) -> int:
        self._unswept_bytes = 0
        files = []
        for path in self._directory.rglob("*"):
            try:
                if path.is_file():
                    status = path.stat()
                    files.append((status.st_mtime, status.st_size, path))
            except OSError:
                continue  # another process deleted it just now
        over = sum(size for _, size, _ in files) - limit_bytes
        freed = 0
        for _, size, path in sorted(files, key=lambda one: one[0]):
            if freed >= over:
                break
            with suppress(OSError):
                path.unlink(missing_ok=True)
                freed += size
        return freed

    def _path(self, chunk: Chunk) -> Path:
        return self._directory / chunk.sha256[:2] / chunk.sha256
