"""Whatever is killed: every id answered whole has exactly one row, and the aggregates agree."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from cli.demo.report import LogCheck, check_log
from gateway.spool.segments import workers_of
from mlops.local.stack import Stack
from tests.process.gateway_process import workers_under

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

ROUND_REQUESTS = 150
"""Answered between two kills: most of a second, so that several batches are under way."""
REPLACED_S = 60
"""Longest wait until a killed worker is replaced, on a machine that is full."""


def _routes(url: str) -> list[dict[str, Any]]:
    return [
        {
            "name": "rag",
            "match": {"prefix": "/"},
            "stable": {"version": "1", "endpoints": [url]},
            "sticky": {"header": "x-user-id"},
        }
    ]


async def _start(stack: Stack, url: str) -> None:
    await asyncio.to_thread(stack.start_clickhouse)
    await asyncio.to_thread(stack.start_gateway, _routes(url))
    await asyncio.to_thread(stack.start_recorder)


def _assert_once(check: LogCheck) -> None:
    assert check.missing == 0
    assert check.repeated == 0
    assert check.difference == ""


async def test_a_killed_gateway_loses_nothing_that_was_answered(
    stack: Stack, upstreams: tuple[Any, Any], load: Any
) -> None:
    """Three times in the middle of traffic; clients see broken connections, the log no gap."""
    url = upstreams[0].url
    await _start(stack, url)
    async with load(stack.addresses["gateway"]) as traffic:
        for _ in range(3):
            await traffic.until_answered(ROUND_REQUESTS)
            await asyncio.to_thread(stack.kill, "gateway")
            await asyncio.to_thread(stack.start_gateway, _routes(url))
        await traffic.until_answered(ROUND_REQUESTS)
    assert len(traffic.answered) >= 4 * ROUND_REQUESTS
    _assert_once(await check_log(stack.clickhouse, traffic.answered.keys()))


async def test_killed_workers_lose_nothing_that_was_answered(
    stack: Stack, upstreams: tuple[Any, Any], load: Any
) -> None:
    """One of two at a time; the other serves on, and both leave their rows to the recorder."""
    await asyncio.to_thread(stack.start_clickhouse)
    await asyncio.to_thread(stack.start_gateway, _routes(upstreams[0].url), 2)
    await asyncio.to_thread(stack.start_recorder)
    supervisor = stack.process("gateway").pid
    spooled = set()
    async with load(stack.addresses["gateway"]) as traffic:
        for kill in range(4):
            await traffic.until_answered(ROUND_REQUESTS)
            async with asyncio.timeout(REPLACED_S):
                while len(spooled) < 2 + kill:  # until whoever was killed is replaced
                    await traffic.until_answered(1)
                    spooled |= set(workers_of(stack.directory / "spool"))
            os.kill(workers_under(supervisor)[kill % 2], signal.SIGKILL)
        await traffic.until_answered(ROUND_REQUESTS)
    _assert_once(await check_log(stack.clickhouse, traffic.answered.keys()))


async def test_a_killed_recorder_inserts_nothing_twice(
    stack: Stack, upstreams: tuple[Any, Any], load: Any
) -> None:
    """Killed in the middle of inserts; the next goes on from the cursor, with the same ranges."""
    await _start(stack, upstreams[0].url)
    async with load(stack.addresses["gateway"], beside=upstreams[0].url) as traffic:
        await traffic.until_answered(ROUND_REQUESTS)
        since = traffic.mark()
        for _ in range(4):
            await traffic.until_answered(ROUND_REQUESTS)
            await asyncio.to_thread(stack.kill, "recorder")
            await asyncio.to_thread(stack.start_recorder)
        await traffic.until_answered(ROUND_REQUESTS)
    traffic.check_nobody_waited(since)
    _assert_once(await check_log(stack.clickhouse, traffic.answered.keys()))


async def test_a_killed_engine_costs_no_request_and_no_row(
    stack: Stack, upstreams: tuple[Any, Any], load: Any
) -> None:
    """The spool holds what ClickHouse could not take; nothing is stored twice afterwards."""
    await _start(stack, upstreams[0].url)
    async with load(stack.addresses["gateway"], beside=upstreams[0].url) as traffic:
        await traffic.until_answered(ROUND_REQUESTS)
        since = traffic.mark()
        for _ in range(3):
            await traffic.until_answered(ROUND_REQUESTS)
            await asyncio.to_thread(stack.kill, "clickhouse")
            await traffic.until_answered(ROUND_REQUESTS)
            await asyncio.to_thread(stack.start_clickhouse)
        await traffic.until_answered(ROUND_REQUESTS)
    traffic.check_nobody_waited(since)
    _assert_once(await check_log(stack.clickhouse, traffic.answered.keys()))
