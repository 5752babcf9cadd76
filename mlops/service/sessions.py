"""Browsers that have logged in with a token: a cookie stands for it, in this process alone."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Final

COOKIE: Final = "rag_mlops_session"
LIFE_S: Final = 12 * 3600.0
"""A working day; then the token is asked for again."""
MAX_SESSIONS: Final = 256
"""Of more, the one that began first ends."""


class Sessions:
    """Session ids and the tokens they stand for.

    A session is asked for its token at every request, so that one whose token is taken away ends
    with it. Nothing is written down: a restart ends them all.
    """

    def __init__(self) -> None:
        self._begun: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def begin(self, token: str, now_s: float) -> str:
        """A new session's id."""
        session = secrets.token_urlsafe(32)
        self._begun[session] = (token, now_s)
        if len(self._begun) > MAX_SESSIONS:
            self._begun.popitem(last=False)
        return session

    def authorization(self, session: str, now_s: float) -> str:
        """What the browser would have sent with its token; empty where there is no session."""
        token, begun_s = self._begun.get(session, ("", 0.0))
        if not token:
            return ""
        if now_s - begun_s > LIFE_S:
            self.end(session)
            return ""
        return f"Bearer {token}"

    def end(self, session: str) -> None:
        """Forget it; nothing where it is not known."""
        self._begun.pop(session, None)
