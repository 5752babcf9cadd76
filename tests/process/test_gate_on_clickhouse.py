"""A gate that asks the real engine: yes, no, nothing, and what it may not do."""

from __future__ import annotations

import asyncio

import pytest

from agent.condition import Condition
from agent.providers import Providers
from agent.rules import ClickHouse, Gate
from mlops.local.stack import Stack
from tests.releases import release

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]


async def test_a_query_decides_and_cannot_write(stack: Stack) -> None:
    await asyncio.to_thread(stack.start_clickhouse)
    providers = Providers(stack.clickhouse)

    async def ask(query: str, condition: str = "result[0] == 0") -> tuple[bool, str]:
        gate = Gate(name="g", provider=ClickHouse(query=query), condition=Condition(condition))
        return await providers.ask(gate, release())

    try:
        rows = "SELECT count() FROM query_features WHERE route = {route:String}"
        assert (await ask(rows))[0]
        assert not (await ask(rows, "result[0] > 0"))[0]
        assert not (await ask("SELECT 1 WHERE 0"))[0]
        passed, why = await ask("SELECT 'text'")
        assert not passed
        assert "not a number" in why
        for wrong in ("SELECT nonsense(", "DROP TABLE query_features", "INSERT INTO x VALUES (1)"):
            assert not (await ask(wrong))[0]
        assert (await ask(rows))[0]  # it is still there
        await asyncio.to_thread(stack.kill, "clickhouse")
        assert not (await ask(rows))[0]
    finally:
        await providers.close()
