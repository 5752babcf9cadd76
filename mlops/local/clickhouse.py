"""`python -m mlops.local.clickhouse --path DIR --port N`: ClickHouse on one machine, nothing else.

One process owns the database directory and speaks ClickHouse's HTTP interface on loopback, so that
a real server is a change of address. It prints one line, `ready http://HOST:PORT`, when it serves;
SIGTERM ends it cleanly, and `kill -9` loses nothing that was acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from ipaddress import ip_address
from pathlib import Path

from aiohttp import web

from mlops.local.clickhouse_engine import CannotOpen, Engine
from mlops.local.clickhouse_http import Front

log = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT_S = 3.0
"""How long running statements may take after SIGTERM (the HTTP server waits for it twice). What is
cut off was never acknowledged; an insert of a batch takes tens of milliseconds."""


def loopback(host: str) -> str:
    """Check an address to listen on: every user and password is taken, so loopback only."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        message = f"--host {host} is not a loopback address; this engine checks no password"
        raise argparse.ArgumentTypeError(message)
    return host


async def serve(engine: Engine, host: str, port: int) -> bool:
    """Serve until SIGTERM or SIGINT; False if a statement still runs then."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    front = Front(engine)
    runner = web.AppRunner(
        front.application(), access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0]
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        sys.stdout.write(f"ready http://{shown}:{bound[1]}\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        await runner.cleanup()
        idle = front.close()
    return idle


def main() -> int:
    """Parse the arguments and serve; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mlops.local.clickhouse", description=__doc__)
    parser.add_argument("--path", type=Path, required=True, help="directory of the database")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--host", type=loopback, default="127.0.0.1", help="loopback only")
    parser.add_argument("--config", type=Path, help="ClickHouse's own file, such as of its users")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        config = arguments.config.resolve(strict=True) if arguments.config else None
        engine = Engine(arguments.path.resolve(), config)
        idle = asyncio.run(serve(engine, arguments.host, arguments.port))
    except (CannotOpen, OSError) as error:
        log.error("cannot serve: %s", error)  # noqa: TRY400 - the sentence says it all
        return 1
    if idle:
        engine.close()
    else:
        log.warning("leaving with a statement still running")
    return 0


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    # Threads of the engine may be left, and waiting for them has no bound. What was acknowledged is
    # on disk, and a kill at any moment is safe.
    os._exit(exit_code)
