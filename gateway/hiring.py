"""Starting processes of this program that inherit exactly what they are meant to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.channel import Channel

KEPT_MEMORY: Final[Mapping[str, str]] = {
    "MALLOC_MMAP_THRESHOLD_": str(1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(4 * 1024 * 1024),
}
"""For glibc, unless the user says otherwise. A long body is read 256 KiB at a time; by default such
a piece is given back to the kernel when it was sent, and two thirds of the CPU of a long body are
faults of the next one's pages. So up to 4 MiB that were used stay with a worker."""


class ChildProcess:
    """A process that we started, watched by its descriptor rather than by its number."""

    def __init__(self, pid: int) -> None:
        """Raises OSError: it cannot be watched; it has been ended."""
        self.pid = pid
        try:
            self._descriptor = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._descriptor, self._has_ended)

    @classmethod
    def start(
        cls, module: str, arguments: Sequence[str], environ: Mapping[str, str]
    ) -> ChildProcess:
        """`python -m MODULE`, with our output and log. Inherits nothing else."""
        return cls(_spawn(module, arguments, environ, {}))

    def kill(self) -> None:
        """SIGKILL; nothing where it has ended, whoever has its number now."""
        with contextlib.suppress(OSError):  # it has ended
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    async def wait(self) -> int:
        """Until it has ended; its exit code, negative for a signal."""
        return await asyncio.shield(self._code)

    def _has_ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        _, status = os.waitpid(self.pid, 0)
        self._code.set_result(os.waitstatus_to_exitcode(status))


class WorkerProcess(ChildProcess):
    """`python -m gateway.worker`, with its end of the channel and every listening socket."""

    channel: Channel


async def hire(sockets: Sequence[socket.socket], environ: Mapping[str, str]) -> WorkerProcess:
    """Start a worker from the files on disk. It inherits the log and these sockets.

    Raises:
        OSError: the process cannot be started.
    """
    ours, theirs = socket.socketpair()
    with theirs, contextlib.ExitStack() as undoing:
        undoing.callback(ours.close)
        sources = [each.fileno() for each in (theirs, *sockets)]
        first = max(sources) + 1  # none of the numbers over there is one that is still to be copied
        inherited = {source: first + place for place, source in enumerate(sources)}
        words = [str(number) for number in inherited.values()]
        environ = {**KEPT_MEMORY, **environ}
        process = WorkerProcess(_spawn("gateway.worker", words, environ, inherited))
        undoing.pop_all()
    ours.settimeout(0)
    process.channel = await Channel.over(ours)
    return process


def _spawn(
    module: str,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    inherited: Mapping[int, int],
) -> int:
    """The pid. `inherited`: descriptors of ours, and their numbers over there.

    Copied in the child itself: no descriptor is ever inheritable here, where another process that
    is started at the same time would get it too, and a dead worker's channel would stay open.
    """
    copies = [(os.POSIX_SPAWN_DUP2, ours, theirs) for ours, theirs in inherited.items()]
    options = [f"-W{option}" for option in sys.warnoptions]
    return os.posix_spawn(
        sys.executable,
        [sys.executable, *options, "-m", module, *arguments],
        environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), *copies],
    )
