"""Starting a worker's process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Sequence

from gateway.channel import Channel


class WorkerProcess:
    """`python -m gateway.worker`, with its end of the channel and every listening socket."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.channel = channel
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self) -> int:
        return await self._process.wait()


async def hire(sockets: Sequence[socket.socket]) -> WorkerProcess:
    """Start a worker from the files on disk. Of ours it inherits the log and these sockets.

    Raises:
        OSError: the process cannot be started.
    """
    ours, theirs = socket.socketpair()
    # A copy, because the same socket is inherited by several workers.
    copies = [each.dup() for each in sockets]
    try:
        descriptors = [each.fileno() for each in (theirs, *copies)]
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - its signature
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(f"-W{option}" for option in sys.warnoptions),
            *("-m", "gateway.worker", *map(str, descriptors)),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=descriptors,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        for each in (theirs, *copies):
            each.close()
    ours.settimeout(0)
    return WorkerProcess(process, await Channel.over(ours))
