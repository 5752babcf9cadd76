"""Opening connections to endpoints, in the background, for whoever waits longest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from ssl import SSLCertVerificationError, SSLError
from time import monotonic_ns
from typing import TYPE_CHECKING, TypeVar

from gateway.outcome import Failure
from gateway.tls import SHUTDOWN_S
from gateway.upstream import Upstream
from mlops.contracts.slot_values import parse_endpoint
from mlops.service.aio import spawn

if TYPE_CHECKING:
    from gateway.flow import Flow
    from gateway.lanes import Upstreams
    from gateway.tls import Contexts

P = TypeVar("P", bound=asyncio.Protocol)


def dial(flow: Flow, contexts: Contexts, endpoint: Upstreams, connect_s: float) -> None:
    """Open one connection; `endpoint.dial_begun()` has been called."""
    spawn(_dial(flow, contexts, endpoint, connect_s), name=f"dial {endpoint.url}")


async def _dial(flow: Flow, contexts: Contexts, endpoint: Upstreams, connect_s: float) -> None:
    try:
        async with asyncio.timeout(connect_s):
            upstream = await connect(endpoint, partial(Upstream, flow, endpoint), contexts)
    except TimeoutError:
        reason = f"no connection within {connect_s:g} s"
        flow.dial_failed(endpoint, Failure.CONNECT_TIMEOUT, reason, connect_s)
    except OSError as error:
        flow.dial_failed(endpoint, Failure.CONNECT, why_not(error), connect_s)
    else:
        if endpoint.dialled(upstream):
            upstream.serve_first(monotonic_ns())
        else:
            flow.dial_failed(endpoint, Failure.CONNECT, "closed as soon as it was open", connect_s)


async def connect(endpoint: Upstreams, factory: Callable[[], P], contexts: Contexts) -> P:
    """A protocol on a new connection to the endpoint, through TLS where it says so.

    Raises:
        OSError: nothing is there, it does not let us in, or it is not who it should be; also where
            its name is none that could be looked up.
    """
    try:
        return await _connected(endpoint, factory, contexts)
    except UnicodeError as error:  # a label of the name is empty or too long
        raise OSError(str(error)) from error


async def _connected(endpoint: Upstreams, factory: Callable[[], P], contexts: Contexts) -> P:
    loop = asyncio.get_running_loop()
    host, port, path, is_tls = parse_endpoint(endpoint.url)
    if path is not None:
        _, protocol = await loop.create_unix_connection(factory, path)
        return protocol
    assert host is not None, "an endpoint has a host or a path"
    if not is_tls:
        _, protocol = await loop.create_connection(factory, host, port)
    else:
        settings = endpoint.settings.tls
        try:
            context = contexts.client(settings)
        except ValueError as error:
            raise OSError(str(error)) from error
        _, protocol = await loop.create_connection(
            factory,
            host,
            port,
            ssl=context,
            server_hostname=settings.server_name or host,
            ssl_shutdown_timeout=SHUTDOWN_S,
        )
    return protocol


def why_not(error: OSError) -> str:
    """In a few words, without a number."""
    if isinstance(error, SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if isinstance(error, SSLError):
        return f"no TLS: {error.reason or error}"
    return error.strerror or str(error)
