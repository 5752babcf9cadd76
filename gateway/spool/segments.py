"""Files and locks of a spool directory: what the writer and the recorder both need to know.

<dir>/lock                  held while a segment is allocated or a worker is looked at
<dir>/<worker>/lock         held as long as the worker lives
<dir>/<worker>/00000001.seg
<dir>/<worker>/cursor       written by the recorder
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from mmap import MADV_DONTNEED, PAGESIZE, mmap
from pathlib import Path

from gateway.spool.format import encode_header

WORKER_NAME = re.compile(r"[0-9]+-[0-9a-f]{12}")
"""Index of the worker, then 48 random bits. Every other directory in a spool is somebody else's:
`lost+found` of a file system of its own, or whatever a user put there."""
SUFFIX = ".seg"
_MAKING = ".new"
"""After `SUFFIX` while a segment is being made."""
LOCK_NAME = "lock"
CURSOR_NAME = "cursor"
DIRECTORY_MODE = 0o700
"""Bodies of users' requests lie here."""
FILE_MODE = 0o600

_POPULATE_WRITE = 23
"""MADV_POPULATE_WRITE of Linux 5.14; the mmap module has no name for it."""
_PIECE_BYTES = 512 * 1024
"""Made ready, or let go of, before a rest: 80 us, and half a millisecond where the kernel keeps
file pages one by one. An event loop on the same core stands still so long."""
_ZEROS = bytes(_PIECE_BYTES)
_NOTE_BYTES = 8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.msync.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_MS_SYNC = 4
_PUNCH_HOLE = 0x03
"""FALLOC_FL_PUNCH_HOLE and FALLOC_FL_KEEP_SIZE; the os module has no call that takes them."""


def segment_path(directory: Path, segment: int) -> Path:
    """Where a worker's segment lies, whether it exists or not."""
    return directory / f"{segment:08d}{SUFFIX}"


def segments_of(directory: Path) -> list[int]:
    """Numbers of a worker's finished segment files, in order."""
    return sorted(
        int(entry.name.removesuffix(SUFFIX))
        for entry in os.scandir(directory)
        if entry.name.endswith(SUFFIX) and entry.name.removesuffix(SUFFIX).isdigit()
    )


def workers_of(spool: Path) -> list[str]:
    """Names of the workers that have a directory here, oldest first within an index."""
    return sorted(
        entry.name
        for entry in os.scandir(spool)
        if WORKER_NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
    )


class Usage:
    """Space that all workers' segments take, as noted in the spool's lock file.

    Noted, not looked up: with two thousand segments a look costs the preparing thread thousands of
    system calls, after each of which it may wait 5 ms for the interpreter's lock. A process killed
    between a change and its note leaves the note wrong until the next one starts and counts.
    """

    def __init__(self, spool: Path, descriptor: int) -> None:
        self._spool = spool
        self._descriptor = descriptor

    def bytes(self) -> int:
        """As last noted."""
        return int.from_bytes(os.pread(self._descriptor, _NOTE_BYTES, 0), "little")

    def add(self, change: int) -> None:
        """Note that so many bytes were allocated, or freed if negative."""
        self._note(max(0, self.bytes() + change))

    def count(self) -> int:
        """Look at every segment and note what is really there."""
        total = sum(
            _size(Path(entry.path))
            for worker in workers_of(self._spool)
            for entry in os.scandir(self._spool / worker)
            if SUFFIX in entry.name
        )
        self._note(total)
        return total

    def _note(self, total: int) -> None:
        os.pwrite(self._descriptor, total.to_bytes(_NOTE_BYTES, "little"), 0)


@contextlib.contextmanager
def locked(spool: Path) -> Iterator[Usage]:
    """Hold the spool's lock; waits for whoever has it, which is milliseconds.

    Segments appear and go only under it.
    """
    descriptor = os.open(spool / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield Usage(spool, descriptor)
    finally:
        os.close(descriptor)


def remove_segments(spool: Path, worker: str, numbers: Iterable[int]) -> None:
    """Give the space of these segments back to every worker."""
    with locked(spool) as usage:
        freed = 0
        for number in numbers:
            path = segment_path(spool / worker, number)
            freed += path.stat().st_size
            path.unlink()
        usage.add(-freed)


def wipe(path: Path, start: int, end: int) -> None:
    """Make the bytes from `start` to `end` of a segment zeros, and give their blocks back.

    What is acknowledged is read no more, and bodies of requests should not lie about until the
    segment is full. A segment that is gone is wiped already.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if _libc.fallocate(descriptor, _PUNCH_HOLE, start, end - start) != 0:
            os.pwrite(descriptor, bytes(end - start), start)  # a file system without holes
    finally:
        os.close(descriptor)


def take_lock(path: Path) -> int | None:
    """Lock `path` until the returned descriptor is closed; None if another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_alive(spool: Path, worker: str) -> bool:
    """Whether the worker's process still holds its lock."""
    with locked(spool):  # between its mkdir and its lock a worker holds this one
        descriptor = take_lock(spool / worker / LOCK_NAME)
        if descriptor is None:
            return True
        os.close(descriptor)
        return False


def make_segment(directory: Path, segment: int, size: int) -> None:
    """Allocate a segment's file under a temporary name: afterwards writing cannot fill the disk.

    Raises:
        OSError: no space, or the directory is gone. Nothing is left behind.
    """
    temporary = _temporary(directory, segment)
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        temporary.unlink()
        raise
    finally:
        os.close(descriptor)


def map_segment(directory: Path, segment: int, rest: Callable[[], None]) -> mmap:
    """Map what `make_segment` made, touch its pages, write its header, give it its name.

    `rest` is called after every `_PIECE_BYTES`.

    Raises:
        OSError: no descriptor or memory is left, or the disk fails. Nothing is left behind.
    """
    temporary = _temporary(directory, segment)
    try:
        return _mapped(temporary, directory, segment, rest)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _mapped(temporary: Path, directory: Path, segment: int, rest: Callable[[], None]) -> mmap:
    descriptor = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
    try:
        memory = mmap(descriptor, 0)
        try:
            populate(memory, descriptor, rest)
            header = encode_header(directory.name, segment)
            memory[: len(header)] = header
            temporary.rename(segment_path(directory, segment))
        except OSError:
            memory.close()
            raise
    finally:
        os.close(descriptor)
    return memory


def populate(memory: mmap, descriptor: int, rest: Callable[[], None]) -> None:
    """Make every page present and writable, so that writing to it later faults no more.

    The zeros that are there already are written first: the kernel then has the file in pieces
    larger than a page (ext4 since Linux 6.16, XFS), and mapping those takes a fifth of the time.
    """
    try:
        for offset in range(0, len(memory), _PIECE_BYTES):
            length = min(_PIECE_BYTES, len(memory) - offset)
            os.pwrite(descriptor, _ZEROS[:length], offset)
            _advise(memory, offset, length, _POPULATE_WRITE)
            rest()
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        touch(memory)  # a kernel before 5.14


def unmap(memory: mmap, rest: Callable[[], None]) -> None:
    """Close a mapping; what was written to it stays with its file.

    `close` alone would hold the interpreter's lock for the half millisecond that letting go of the
    pages takes. `rest` is called after every `_PIECE_BYTES`.
    """
    with contextlib.suppress(OSError):  # then `close` does it all
        for offset in range(0, len(memory), _PIECE_BYTES):
            _advise(memory, offset, min(_PIECE_BYTES, len(memory) - offset), MADV_DONTNEED)
            rest()
    memory.close()


def sync(memory: mmap, start: int, end: int) -> None:
    """Have the bytes from `start` to `end` on the disk when this returns; milliseconds.

    Only these: written out, a page is made read-only until it is next written to, which then
    faults. The interpreter's lock is let go of meanwhile.
    """
    start -= start % PAGESIZE
    first = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(first)
    del first
    if _libc.msync(address + start, end - start, _MS_SYNC) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot write out a segment: {os.strerror(number)}")


def sync_directory(path: Path) -> None:
    """Have the names in it on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _advise(memory: mmap, offset: int, length: int, advice: int) -> None:
    """`memory.madvise`, but letting go of the interpreter's lock meanwhile."""
    first = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(first)
    del first  # as long as it lives, the mapping cannot be closed
    if _libc.madvise(address + offset, length, advice) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot advise on a segment's pages: {os.strerror(number)}")


def touch(memory: mmap) -> None:
    """`populate` for older kernels; `memory` must still be all zeros."""
    for offset in range(0, len(memory), PAGESIZE):
        memory[offset] = 0
        time.sleep(0)  # lets go of the interpreter's lock after each fault


def _temporary(directory: Path, segment: int) -> Path:
    return directory / f"{segment:08d}{SUFFIX}{_MAKING}"


def _size(path: Path) -> int:
    """Of a segment that may just be given its name."""
    for name in (path, path.with_name(path.name.removesuffix(_MAKING))):
        with contextlib.suppress(FileNotFoundError):
            return name.stat().st_size
    return 0
