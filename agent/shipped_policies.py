"""The policies that come with the system, one for each strategy: files to read and to copy."""

from __future__ import annotations

from agent.policy import Policy
from agent.policy_file import load_policy
from mlops.deployment.strategies import DIRECTORY, strategies


def shipped(strategy: str) -> Policy:
    """The policy of that name.

    Raises:
        ValueError: there is none.
    """
    if strategy not in strategies():
        raise ValueError(f"strategy: expected one of {', '.join(strategies())}, got {strategy!r}")
    return load_policy(DIRECTORY / f"{strategy}.yaml")
