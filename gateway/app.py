"""The composition root of `python -m gateway`: the supervisor's process, and its signals."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from gateway import config
from gateway.handover import Predecessor
from gateway.hiring import ChildProcess
from gateway.supervisor import Supervisor
from mlops.service.aio import spawn

log = logging.getLogger(__name__)


async def serve(path: Path, environ: Mapping[str, str], *, upgrade: bool = False) -> None:
    """Run one gateway until SIGTERM or SIGINT, or until another one has taken over.

    `upgrade`: take over from the one that runs on the same state directory.

    Raises:
        ConfigError, BadPlanFile, StateTaken, CannotStart, UpgradeFailed, OSError: it cannot start,
            and says why.
    """
    read_file = partial(config.load, path, environ)
    settings = read_file()
    predecessor = await Predecessor.find(settings.state_dir) if upgrade else None
    over = asyncio.Event()
    supervisor = Supervisor(
        settings, lambda: config.load(path, environ), environ, over, predecessor
    )

    def end() -> None:
        over.set()
        supervisor.hurry()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(
        signal.SIGHUP, lambda: spawn(supervisor.reload_and_log(), name="reload")
    )
    loop.add_signal_handler(
        signal.SIGUSR2, lambda: spawn(start_successor(path, environ), name="successor")
    )
    try:
        await supervisor.start()
        await over.wait()
    finally:
        await supervisor.stop()


async def start_successor(path: Path, environ: Mapping[str, str]) -> None:
    """SIGUSR2: start the program on disk, with the file as it is now, to take over from us."""
    process = ChildProcess.start("gateway", ["--config", str(path), "--upgrade"], environ)
    log.info("upgrade: process %d is to take over", process.pid)
    code = await process.wait()  # once it has taken over, we end long before it does
    log.error("the upgrade failed: process %d ended with code %d", process.pid, code)
