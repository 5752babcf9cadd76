"""Who may look, who may change."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from hmac import compare_digest


class Role(IntEnum):
    """A greater role may do everything that a smaller one may."""

    NOBODY = 0
    VIEWER = 1
    OPERATOR = 2


class Tokens:
    """The tokens in force. Without any, everybody who can connect (loopback) is an operator."""

    def __init__(self, *, operator: str | None, viewer: str | None) -> None:
        given = ((viewer, Role.VIEWER), (operator, Role.OPERATOR))
        self._known: Sequence[tuple[bytes, Role]] = [
            (token.encode(), role) for token, role in given if token
        ]

    @property
    def is_open(self) -> bool:
        return not self._known

    def role_of(self, authorization: str) -> Role:
        """Every token is compared, each in constant time, so that timing tells nothing."""
        if self.is_open:
            return Role.OPERATOR
        scheme, _, given = authorization.partition(" ")
        candidate = given.strip().encode(errors="replace")
        role = Role.NOBODY
        for token, granted in self._known:
            if compare_digest(token, candidate):
                role = max(role, granted)
        return role if scheme.lower() == "bearer" else Role.NOBODY
