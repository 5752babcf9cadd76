"""What is refused where a release is started, as it could never pass."""

from __future__ import annotations

from typing import Any

import pytest

from agent.policy import Policy, SetWeight
from agent.releases import MAX_HISTORY, check_policy, newest_events
from agent.rules import Rules
from mlops.contracts.release import ReleaseEvent

RULES = Rules(max_share_bp={"rag": 2500, "*": 5000})


@pytest.mark.parametrize(
    ("policy", "route", "expected"),
    [
        (Policy(steps=(SetWeight(2501),)), "rag", "'rag' may have at most 25 %"),
        (Policy(steps=(SetWeight(5001),)), "chat", "'chat' may have at most 50 %"),
        (Policy(steps=(SetWeight(500),), gates=("calm",)), "rag", "no gate 'calm'.*has: none"),
        (Policy(steps=(SetWeight(500),), lease_s=5.9), "rag", "lease: expected at least 6 s"),
    ],
)
def test_what_could_never_pass_is_refused(policy: Policy, route: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        check_policy(policy, route, RULES, interval_s=2.0)


def test_what_just_passes_is_taken() -> None:
    check_policy(Policy(steps=(SetWeight(2500),), lease_s=6.0), "rag", RULES, interval_s=2.0)


class Journal:
    """So many entries of one release, in pages as the database gives them."""

    def __init__(self, entries: int) -> None:
        self._entries = entries

    async def events(self, *, release_id: str, after: int) -> list[ReleaseEvent]:
        last = min(self._entries, after + 500)
        return [
            ReleaseEvent(
                sequence=number, release_id=release_id, route="rag", at="", kind="release.invalid",
                actor="agent", from_share_bp=0, to_share_bp=0, reason="",
            )
            for number in range(after + 1, last + 1)
        ]  # fmt: skip


@pytest.mark.parametrize("entries", [0, 3, 500, 1_001, 2_700])
async def test_a_long_history_keeps_how_it_ended(entries: int) -> None:
    journal: Any = Journal(entries)
    numbers = [one.sequence for one in await newest_events(journal, "rel-1")]
    assert numbers == list(range(max(1, entries - MAX_HISTORY + 1), entries + 1))
