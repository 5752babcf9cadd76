"""An address as long as the longest policy that a replay takes makes it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from agent.console.replays import MAX_POLICY_CHARS


async def test_the_longest_policy_is_read_whatever_it_is_made_of(start: Any) -> None:
    running = await start()
    policy = quote("\N{GRINNING FACE}" * MAX_POLICY_CHARS)
    status, said = await running.call("GET", f"/v1/releases/rel-0/replay?policy={policy}")
    assert (status, said["code"]) == (404, "not_found"), said
