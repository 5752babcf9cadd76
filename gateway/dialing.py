"""Opening connections to endpoints, in the background, for whoever waits longest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic_ns
from typing import TYPE_CHECKING, TypeVar

from gateway.outcome import Failure
from gateway.upstream import Upstream
from mlops.contracts.slot_values import parse_endpoint
from mlops.service.aio import spawn

if TYPE_CHECKING:
    from gateway.flow import Flow
    from gateway.lanes import Upstreams

P = TypeVar("P", bound=asyncio.Protocol)


def dial(flow: Flow, endpoint: Upstreams, connect_s: float) -> None:
    """Open one connection; `endpoint.dial_begun()` has been called."""
    spawn(_dial(flow, endpoint, connect_s), name=f"dial {endpoint.url}")


async def _dial(flow: Flow, endpoint: Upstreams, connect_s: float) -> None:
    try:
        async with asyncio.timeout(connect_s):
            upstream = await connect(endpoint, partial(Upstream, flow, endpoint))
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


async def connect(endpoint: Upstreams, factory: Callable[[], P]) -> P:
    """A protocol on a new connection to the endpoint.

    Raises:
        OSError: nothing is there, or it does not let us in.
    """
    loop = asyncio.get_running_loop()
    address = parse_endpoint(endpoint.url)
    if address.path is not None:
        _, protocol = await loop.create_unix_connection(factory, address.path)
    else:
        assert address.host is not None
        _, protocol = await loop.create_connection(factory, address.host, address.port)
    return protocol


def why_not(error: OSError) -> str:
    """In a few words, without a number."""
    return error.strerror or str(error)
