"""The policies that come with the agent, one for each strategy: files to read and to copy."""

from __future__ import annotations

from pathlib import Path

from agent.policy import Policy
from agent.policy_file import load_policy

DIRECTORY = Path(__file__).parent / "policies"


def strategies() -> tuple[str, ...]:
    """Their names."""
    return tuple(sorted(path.stem for path in DIRECTORY.glob("*.yaml")))


def shipped(strategy: str) -> Policy:
    """The policy of that name.

    Raises:
        ValueError: there is none.
    """
    if strategy not in strategies():
        raise ValueError(f"strategy: expected one of {', '.join(strategies())}, got {strategy!r}")
    return load_policy(DIRECTORY / f"{strategy}.yaml")
