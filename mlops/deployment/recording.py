"""Tell the registry what the gateways and the agent have done already. None of it waits for MLflow,
which may be away, or take a call and never answer it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from mlops.model_registry import TrackingError
from mlops.service.aio import in_thread_of_its_own

RECORD_TIMEOUT_S: Final = 10.0
"""Longest time for the registry; what matters has been done by then."""


async def not_recorded(call: Callable[[], None]) -> str:
    """Make a call of the registry, in time or not at all; why it was not, empty if it was."""
    try:
        async with asyncio.timeout(RECORD_TIMEOUT_S):
            await in_thread_of_its_own(call, name="tell the registry")
    except (TrackingError, TimeoutError) as error:
        return str(error) or f"no answer within {RECORD_TIMEOUT_S:g} s"
    return ""
