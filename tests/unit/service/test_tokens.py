"""Bearer tokens and the roles they carry."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.service.failures import MAX_ADDRESSES, MAX_FAILURES, WINDOW_S, Failures
from mlops.service.tokens import Role, Tokens, new_token

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
    assert BOTH.grant_of(authorization).role is role


def test_without_tokens_whoever_connects_is_an_operator() -> None:
    tokens = Tokens(operator=None, viewer=None)
    assert tokens.is_open
    assert tokens.grant_of("").role is Role.OPERATOR


def test_with_a_viewer_alone_nobody_changes_anything() -> None:
    tokens = Tokens(operator=None, viewer="view")
    assert not tokens.is_open
    assert tokens.grant_of("Bearer view").role is Role.VIEWER
    assert tokens.grant_of("").role is Role.NOBODY


def test_what_is_kept_of_a_new_token_grants_its_role_and_does_not_hold_it(tmp_path: Path) -> None:
    token, entry = new_token("ci", "operator", ["rag"])
    path = tmp_path / "tokens.yaml"
    path.write_bytes(msgspec.yaml.encode([entry]))
    assert token not in path.read_text()
    tokens = Tokens(operator=None, viewer="view", file=path)
    grant = tokens.grant_of(f"Bearer {token}")
    assert (grant.role, grant.name) == (Role.OPERATOR, "ci")
    assert grant.may_touch("rag")
    assert not grant.may_touch("chat")
    assert tokens.grant_of("Bearer view").role is Role.VIEWER
    assert tokens.grant_of(f"Bearer {entry.sha256}").role is Role.NOBODY


def test_a_token_is_accepted_until_the_end_of_its_last_day(tmp_path: Path) -> None:
    token, entry = new_token("ci", "viewer", last_day=date(2026, 3, 31))
    path = tmp_path / "tokens.yaml"
    path.write_bytes(msgspec.yaml.encode([entry]))
    for day, role in ((date(2026, 3, 31), Role.VIEWER), (date(2026, 4, 1), Role.NOBODY)):
        tokens = Tokens(operator=None, viewer=None, file=path, today=lambda day=day: day)
        assert tokens.grant_of(f"Bearer {token}").role is role


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {name: a, role: boss, sha256: ''}", "boss"),
        ("- {name: a, role: viewer, sha256: my-secret}", "64 hexadecimal"),
        ("- {name: a, role: viewer, token: my-secret}", "token"),
        ("- {name: '', role: viewer, sha256: '" + "0" * 64 + "'}", "name"),
        ("- {name: a, role: admin, routes: [rag], sha256: '" + "0" * 64 + "'}", "every route"),
        ("- &x {name: a, role: viewer, sha256: '" + "0" * 64 + "'}\n- *x", "a stands twice"),
        ("{", "not YAML"),
    ],
)
def test_a_file_that_is_not_right_is_refused_without_repeating_a_secret(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as refused:
        Tokens(operator=None, viewer=None, file=path)
    assert str(path) in str(refused.value)
    assert "my-secret" not in str(refused.value)


def test_an_empty_file_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    path.write_text("")
    tokens = Tokens(operator=None, viewer=None, file=path)
    assert not tokens.is_open
    assert tokens.grant_of("").role is Role.NOBODY


@given(seconds=st.lists(st.floats(0, 1000), max_size=200))
def test_an_address_is_shut_out_exactly_while_it_failed_too_often(seconds: list[float]) -> None:
    failures, noted = Failures(), []
    for now_s in sorted(seconds):
        recent = [at_s for at_s in noted if at_s + WINDOW_S > now_s]
        assert (failures.wait_s("a", now_s) > 0) == (len(recent) >= MAX_FAILURES)
        if not failures.wait_s("a", now_s):
            failures.note("a", f"guess {len(noted)}", now_s)
            noted.append(now_s)
        assert failures.wait_s("b", now_s) == 0


def test_an_old_token_sent_without_end_shuts_nobody_out() -> None:
    failures = Failures()
    for second in range(10 * MAX_FAILURES):
        failures.note("a", "Bearer of last month", float(second))
        assert failures.wait_s("a", float(second)) == 0
    for guess in range(MAX_FAILURES):
        failures.note("a", str(guess), 300.0)
    assert failures.wait_s("a", 300.0) == WINDOW_S


def test_addresses_are_forgotten_not_kept_without_end() -> None:
    failures = Failures()
    for number in range(MAX_ADDRESSES + 1):
        for guess in range(MAX_FAILURES if number in (0, 1) else 1):
            failures.note(str(number), str(guess), 0.0)
    assert failures.wait_s("0", 0.0) == 0.0
    assert failures.wait_s("1", 0.0) > 0
