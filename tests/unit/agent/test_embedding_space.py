"""What embedding the canaries again says; servers that are asked: see the gatekeeper's tests."""

from __future__ import annotations

import pytest

from agent.embedding_space import Canary, Declaration, IndexSpace, mismatch

LONG = 1e200
"""A number whose square no computer holds."""


@pytest.mark.parametrize(
    ("held", "given", "is_match"),
    [
        ([3.0, 4.0], [30.0, 40.0], True),
        ([3.0, 4.0], [4.0, 3.0], False),
        ([3.0, 4.0], [0.0, 0.0], False),
        ([LONG, LONG], [LONG, -LONG], False),
    ],
)
def test_only_the_same_direction_is_a_match(
    held: list[float], given: list[float], *, is_match: bool
) -> None:
    index = IndexSpace(name="i", model="m", dimension=2, canaries=[Canary("a text", held)])
    declared = Declaration(model="m", dimension=2, index=index)
    assert (mismatch(declared, [given]) == "") is is_match
