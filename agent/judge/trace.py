"""What the tests of one release say after each of the last blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from agent.judge.eprocess import Floats, Ints
from agent.judge.panel import Panel, log_sum
from agent.judge.proof import PROOFS
from agent.judge.running import Array, Bools, carried
from agent.judge.trust import Completeness


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Arrays by block; in front what held before the first of them."""

    parts: Mapping[str, Floats]
    """log(w E) of each part but the guard."""
    rest: Floats
    """log of their sum."""
    worse: Mapping[str, Floats]
    """Of each check, the evidence that the candidate is worse."""
    harmless: Mapping[str, Floats]
    """And that it is not, at each level: (blocks, levels)."""
    most: Floats
    """The strongest evidence of any check."""
    proved: Bools
    """At each level: (blocks, levels)."""
    invalid: Bools
    counted: Ints
    """Requests of the candidate that ended; that hung, of either arm: (blocks, 3)."""

    @classmethod
    def of(cls, panel: Panel, completeness: Completeness, counted: Ints) -> Trace:
        """After the blocks that the panel has had just now."""
        parts = panel.log_rest()
        harmless = {
            name: np.stack([test.log_mirror(level) for level in range(len(PROOFS))], axis=-1)
            for name, test in panel.checks.items()
        }
        return cls(
            parts=parts,
            rest=log_sum(list(parts.values())),
            worse={name: test.log_value for name, test in panel.checks.items()},
            harmless=harmless,
            most=panel.log_most(),
            proved=panel.are_proved(list(harmless.values())),
            invalid=panel.sample_ratio.is_violated | completeness.is_violated,
            counted=counted,
        )

    def then(self, following: Trace) -> Trace:
        """The blocks that follow, and in front what holds by now."""
        joined: dict[str, Any] = {}
        for one in fields(self):
            before, after = getattr(self, one.name), getattr(following, one.name)
            joined[one.name] = _carried(before, after)
        return Trace(**joined)

    def __len__(self) -> int:
        return len(self.rest)


def _carried(
    before: Array | Mapping[str, Array], after: Array | Mapping[str, Array]
) -> Array | dict[str, Array]:
    if isinstance(before, np.ndarray):
        assert isinstance(after, np.ndarray), "both are of one field"
        return carried(before, after)
    assert not isinstance(after, np.ndarray), "both are of one field"
    return {name: carried(one, after[name]) for name, one in before.items()}
