"""Servers of ours that run as a module and say `ready http://HOST:PORT`, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

ENDS_WITHIN_S = 20


@contextmanager
def serving(module: str, *arguments: str, **environ: str) -> Iterator[str]:
    """The `HOST:PORT` of a server on any free port, which is ended afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore::SyntaxWarning", "-m", module, "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environ,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("ready http://127.0.0.1:"), line
        yield line.removeprefix("ready http://").strip()
    finally:
        process.terminate()
        process.wait(timeout=ENDS_WITHIN_S)
        process.stdout.close()


def port_of(address: str) -> int:
    """Of a `HOST:PORT`."""
    return int(address.rpartition(":")[2])
