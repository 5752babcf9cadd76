"""A cookie stands for a token as long as it should."""

from __future__ import annotations

from mlops.service.sessions import LIFE_S, MAX_SESSIONS, Sessions


def test_a_session_stands_for_its_token_until_it_is_over() -> None:
    sessions = Sessions()
    one = sessions.begin("token", 0.0)
    assert sessions.authorization(one, LIFE_S) == "Bearer token"
    assert sessions.authorization(one, LIFE_S + 1) == ""
    assert sessions.authorization(one, 0.0) == "", "it does not come back"
    two = sessions.begin("token", 0.0)
    sessions.end(two)
    sessions.end("unknown")
    assert sessions.authorization(two, 0.0) == ""


def test_the_oldest_goes_where_there_are_too_many() -> None:
    sessions = Sessions()
    begun = [sessions.begin("token", 0.0) for _ in range(MAX_SESSIONS + 1)]
    assert len(set(begun)) == len(begun)
    assert sessions.authorization(begun[0], 0.0) == ""
    assert sessions.authorization(begun[1], 0.0) == "Bearer token"
