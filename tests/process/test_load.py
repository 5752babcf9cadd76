"""What the load of these tests measures can fail."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from mlops.local.stack import Stack
from tests.process.gateway_process import workers_under

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]


async def test_a_gateway_that_stands_still_for_a_while_is_noticed(
    stack: Stack, upstreams: tuple[Any, Any], load: Any
) -> None:
    url = upstreams[0].url
    route = {
        "name": "rag",
        "match": {"prefix": "/"},
        "stable": {"version": "1", "endpoints": [url]},
    }
    await asyncio.to_thread(stack.start_gateway, [route])
    (worker,) = workers_under(stack.process("gateway").pid)
    async with load(stack.addresses["gateway"], rate_per_s=50, beside=url) as traffic:
        await traffic.until_answered(50)
        since = traffic.mark()
        os.kill(worker, signal.SIGSTOP)
        await asyncio.sleep(3.0)  # how long it stands still
        os.kill(worker, signal.SIGCONT)
        await traffic.until_answered(20)
    with pytest.raises(AssertionError, match="beside it"):
        traffic.check_nobody_waited(since)
