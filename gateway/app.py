"""The composition root of `python -m gateway`: the supervisor's process, and its signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path

from gateway import config
from gateway.supervisor import Supervisor
from mlops.service.aio import spawn


async def serve(path: Path, environ: Mapping[str, str]) -> None:
    """Run one gateway until SIGTERM or SIGINT.

    Raises:
        ConfigError, BadPlanFile, StateTaken, CannotStart, OSError: it cannot start, and says why.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings = config.load(path, environ)
    supervisor = Supervisor(settings, lambda: config.load(path, environ))
    loop.add_signal_handler(
        signal.SIGHUP, lambda: spawn(supervisor.reload_and_log(), name="reload")
    )
    try:
        await supervisor.start()
        await stop.wait()
    finally:
        await supervisor.stop()
