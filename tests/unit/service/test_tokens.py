"""Bearer tokens and the roles they carry."""

from __future__ import annotations

import pytest

from mlops.service.tokens import Role, Tokens

BOTH = Tokens(operator="op", viewer="view")


@pytest.mark.parametrize(
    ("authorization", "role"),
    [
        ("Bearer op", Role.OPERATOR),
        ("bearer  op ", Role.OPERATOR),
        ("Bearer view", Role.VIEWER),
        ("Bearer OP", Role.NOBODY),
        ("Bearer op2", Role.NOBODY),
        ("Bearer o", Role.NOBODY),
        ("Bearer ", Role.NOBODY),
        ("Bearer", Role.NOBODY),
        ("Basic op", Role.NOBODY),
        ("op", Role.NOBODY),
        ("", Role.NOBODY),
        ("Bearer \udce4", Role.NOBODY),
    ],
)
def test_a_token_carries_its_role_and_nothing_else_does(authorization: str, role: Role) -> None:
    assert BOTH.role_of(authorization) is role


def test_without_tokens_whoever_connects_is_an_operator() -> None:
    tokens = Tokens(operator=None, viewer=None)
    assert tokens.is_open
    assert tokens.role_of("") is Role.OPERATOR


def test_with_a_viewer_alone_nobody_changes_anything() -> None:
    tokens = Tokens(operator=None, viewer="view")
    assert not tokens.is_open
    assert tokens.role_of("Bearer view") is Role.VIEWER
    assert tokens.role_of("") is Role.NOBODY
