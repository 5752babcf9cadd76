"""Starting a worker that cannot be started or watched leaves nothing behind."""

from __future__ import annotations

import errno
import os
import socket
import sys
from pathlib import Path

import pytest

from gateway import hiring


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_worker_that_cannot_be_started_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with socket.socket() as listening:
        before = descriptors()
        with pytest.raises(FileNotFoundError):
            await hiring.hire([listening], os.environ)
        assert descriptors() == before


async def test_a_process_that_cannot_be_watched_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def refuse(pid: int) -> int:
        started.append(pid)
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(OSError, match="too many open files"):
        hiring.ChildProcess.start("http.server", ["0"], os.environ)
    with pytest.raises(ChildProcessError):
        os.waitpid(started[0], os.WNOHANG)  # collected already


async def test_a_child_is_waited_for_with_its_exit_code() -> None:
    child = hiring.ChildProcess.start("this_module_does_not_exist", [], os.environ)
    assert await child.wait() == 1
    child.kill()  # it has ended: nothing happens
