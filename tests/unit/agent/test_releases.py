"""What is refused where a release is started, as it could never pass."""

from __future__ import annotations

import pytest

from agent.policy import Policy, SetWeight
from agent.releases import check_policy
from agent.rules import Rules

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
