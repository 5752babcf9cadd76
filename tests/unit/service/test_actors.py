"""Who is said to have done it."""

from __future__ import annotations

import pytest

from mlops.service.http import said_once


@pytest.mark.parametrize(
    ("actor", "name", "said"),
    [
        ("", "", "operator"),
        ("", "ann", "operator ann"),
        ("ann", "", "ann (operator)"),
        ("ann", "ci", "ann (operator ci)"),
        ("ann", "ann", "operator ann"),
        ("operator", "", "operator"),
        # passed on by another process, which found this out itself:
        ("operator ann", "", "ann (operator)"),
        ("ann (operator)", "", "ann (operator)"),
        ("ann (operator ci)", "agent", "ann (operator agent)"),
        ("ann (operator) (operator)", "", "ann (operator)"),
        # another role than that of the token is a claim, and stays to be seen:
        ("admin ann", "", "admin ann (operator)"),
        ("ann (admin)", "", "ann (admin) (operator)"),
    ],
)
def test_a_role_is_told_once_and_is_that_of_the_token(actor: str, name: str, said: str) -> None:
    assert said_once(actor, "operator", name) == said
