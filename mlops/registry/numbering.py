"""Which semantic version comes after those that are registered. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mlops.registry.values import Alias, RegisteredVersion
from mlops.registry.versioning import FIRST, Decision, Facts, SemanticVersion, decide


def is_above(version: str, others: Sequence[RegisteredVersion]) -> bool:
    """Whether it is higher than all that have a number.

    Raises:
        ValueError: it is no semantic version.
    """
    wanted = SemanticVersion.parse(version)
    return all(SemanticVersion.parse(one.version) < wanted for one in others if one.version)


def next_version(before: Sequence[RegisteredVersion], facts: Facts) -> tuple[str, Decision]:
    """The semantic version after those in `before`, which is newest first."""
    if not before:
        return FIRST, decide(None, facts)
    base = next((one for one in before if Alias.CHAMPION in one.aliases), before[0])
    decision = decide(base.facts, facts)
    taken = {SemanticVersion.parse(one.version) for one in before}
    chosen = SemanticVersion.parse(base.version).after(decision.change)
    while chosen in taken:
        chosen = chosen.after(decision.change)
    return str(chosen), decision
