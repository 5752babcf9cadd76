"""Active health checks: one task an endpoint, a connection of its own for each check."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from gateway.dialing import connect, why_not
from gateway.health import problem_of_status
from mlops.service.aio import spawn

if TYPE_CHECKING:
    from gateway.lanes import Upstreams
    from gateway.tls import Contexts
    from gateway.upstream_settings import HealthCheckSettings

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES: Final = 64 * 1024
"""Of a head; only the status is looked at, and the connection ends with it."""


class HealthChecks:
    """Checks every endpoint that has a `health_check`, from `start` to `stop`."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts
        self._tasks: dict[Upstreams, asyncio.Task[None]] = {}

    def start(self, endpoint: Upstreams) -> None:
        """Check from now on; nothing where it is checked already, or has no `health_check`."""
        settings = endpoint.settings.health_check
        if settings is not None and endpoint not in self._tasks:
            checking = _check_for_ever(endpoint, settings, self._contexts)
            self._tasks[endpoint] = spawn(checking, name=f"health check of {endpoint.url}")

    def stop(self, endpoint: Upstreams) -> None:
        """Check no more; a check under way is given up."""
        task = self._tasks.pop(endpoint, None)
        if task is not None:
            task.cancel()

    def stop_all(self) -> None:
        """The end of the process: as `stop`, of every endpoint."""
        for endpoint in list(self._tasks):
            self.stop(endpoint)


async def _check_for_ever(
    endpoint: Upstreams, settings: HealthCheckSettings, contexts: Contexts
) -> None:
    loop = asyncio.get_running_loop()
    while True:
        began_s = loop.time()
        problem = await check(endpoint, settings, contexts)
        if endpoint.checked(problem):
            if problem:
                log.warning("endpoint %s is out: %s", endpoint.url, problem)
            else:
                log.info("endpoint %s is back", endpoint.url)
        await asyncio.sleep(max(0.0, began_s + settings.interval_s - loop.time()))


async def check(endpoint: Upstreams, settings: HealthCheckSettings, contexts: Contexts) -> str:
    """Ask once. Empty where the answer is as expected, else what was wrong."""
    answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    probe: Probe | None = None
    try:
        async with asyncio.timeout(settings.timeout_s):
            probe = await connect(endpoint, partial(Probe, answered), contexts)
            probe.ask(settings.path, endpoint.host)
            status = await answered
    except TimeoutError:
        return f"no answer within {settings.timeout_s:g} s"
    except OSError as error:
        return why_not(error)
    except BadHealthAnswer as error:
        return str(error)
    finally:
        answered.cancel()
        if probe is not None:
            probe.transport.abort()
    return problem_of_status(status, settings)


class BadHealthAnswer(Exception):
    """What came is no answer to a health check."""


class Probe(asyncio.Protocol):
    """Sends one request, and says which status came back."""

    def __init__(self, answered: asyncio.Future[int]) -> None:
        self.transport: asyncio.Transport
        self._answered = answered
        self._parser = HttpResponseParser(self)
        self._bytes = 0

    def ask(self, path: str, host: str) -> None:
        """Write the request. `host` is the Host header."""
        self.transport.write(
            f"GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: gateway-health-check\r\n"
            "accept: */*\r\nconnection: close\r\n\r\n".encode()
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Nothing is sent before `ask`."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        """Read on until the status is known."""
        self._bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._fail(f"the answer is not HTTP: {error}")
        if self._bytes > MAX_ANSWER_BYTES:
            self._fail("the answer has no end")

    def on_headers_complete(self) -> None:
        """Only the status counts; a 1xx is none."""
        status = self._parser.get_status_code()
        if status >= 200 and not self._answered.done():
            self._answered.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        """The check has failed, unless an answer had come."""
        self._fail("the connection was closed without an answer")
        self._parser = None  # its callbacks point back here

    def _fail(self, problem: str) -> None:
        if not self._answered.done():
            self._answered.set_exception(BadHealthAnswer(problem))
