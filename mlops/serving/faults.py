"""The model server inside a wrapper that injects faults, for demonstrations and tests.

`python -m mlops.serving.faults --delay-ms 40 --error-percent 5 --model DIR --port N`. The server
itself knows nothing of it. Faults befall what a user asks: a faulty version loads well, passes its
health checks and answers badly.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

from aiohttp import web

MAX_HANG_S = 600.0
"""A hung request ends by then even if its client never gives up."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Fault(Enum):
    """What may befall a request."""

    NONE = "none"
    ERROR = "error"
    RESET = "reset"
    HANG = "hang"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSettings:
    """Shares are percent of requests; at most one of error, reset and hang befalls each."""

    delay_ms: float = 0.0
    error_percent: float = 0.0
    reset_percent: float = 0.0
    hang_percent: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        shares = (self.error_percent, self.reset_percent, self.hang_percent)
        if min(shares) < 0 or sum(shares) > 100:
            raise ValueError(f"shares of faults are {shares} percent; expected 0 to 100 in all")
        if not 0 <= self.delay_ms <= MAX_HANG_S * 1e3:
            raise ValueError(f"delay_ms is {self.delay_ms}, expected 0 to {MAX_HANG_S * 1e3:.0f}")

    def draw(self, source: random.Random) -> Fault:
        """The fault of the next request."""
        point = source.random() * 100
        for fault, share in (
            (Fault.ERROR, self.error_percent),
            (Fault.RESET, self.reset_percent),
            (Fault.HANG, self.hang_percent),
        ):
            if point < share:
                return fault
            point -= share
        return Fault.NONE


def with_faults(app: web.Application, settings: FaultSettings) -> web.Application:
    """`app` itself, with the faults outermost. Same seed, same sequence of faults."""
    source = random.Random(settings.seed)  # noqa: S311  repeatable on purpose

    @web.middleware
    async def inject(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/healthz" or request.path.startswith("/admin/"):
            return await handler(request)
        fault = settings.draw(source)
        await asyncio.sleep(settings.delay_ms / 1e3)
        match fault:
            case Fault.ERROR:
                return web.json_response({"error": "injected fault", "code": "fault"}, status=500)
            case Fault.RESET:
                return _reset(request)
            case Fault.HANG:
                await asyncio.sleep(MAX_HANG_S)
                return _reset(request)
            case Fault.NONE:
                return await handler(request)

    app.middlewares.insert(0, inject)
    return app


def _reset(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)  # never seen: the connection is gone


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    for name in ("delay-ms", "error-percent", "reset-percent", "hang-percent"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)


def main() -> int:
    """Parse the arguments and serve with faults."""
    # Before the numeric libraries are loaded, as in `mlops.serving`.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # noqa: TID251  composition root
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # noqa: TID251  composition root
    from mlops.serving.process import argument_parser, run, settings_of  # noqa: PLC0415

    parser = argument_parser("python -m mlops.serving.faults", "Serve a model, with faults.")
    _add_arguments(parser)
    arguments = parser.parse_args()
    try:
        faults = FaultSettings(
            delay_ms=arguments.delay_ms,
            error_percent=arguments.error_percent,
            reset_percent=arguments.reset_percent,
            hang_percent=arguments.hang_percent,
            seed=arguments.seed,
        )
        settings = settings_of(arguments, os.environ)  # noqa: TID251  composition root
    except ValueError as error:
        parser.error(str(error))
    return run(settings, wrap=lambda app: with_faults(app, faults))


if __name__ == "__main__":
    sys.exit(main())
