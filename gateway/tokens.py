"""Bearer tokens of the admin API: who may look, who may change."""

from __future__ import annotations

from enum import IntEnum
from hmac import compare_digest

from gateway.settings import AdminSettings


class Role(IntEnum):
    """A greater role may do everything that a smaller one may."""

    NOBODY = 0
    VIEWER = 1
    OPERATOR = 2


class Tokens:
    """The tokens in force. Without any, everybody who can connect is an operator."""

    def __init__(self, settings: AdminSettings) -> None:
        self._known = [
            (token.encode(), role)
            for token, role in (
                (settings.viewer_token, Role.VIEWER),
                (settings.operator_token, Role.OPERATOR),
            )
            if token is not None
        ]

    @property
    def is_open(self) -> bool:
        return not self._known

    def role_of(self, authorization: str) -> Role:
        """What the value of an `Authorization` header may do.

        Every token is compared, each in constant time, so that timing tells nothing.
        """
        if self.is_open:
            return Role.OPERATOR
        scheme, _, given = authorization.partition(" ")
        candidate = given.strip().encode(errors="replace")
        role = Role.NOBODY
        for token, granted in self._known:
            if compare_digest(token, candidate):
                role = max(role, granted)
        return role if scheme.lower() == "bearer" else Role.NOBODY
