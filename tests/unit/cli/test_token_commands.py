"""`token new`: shown once, kept as a digest."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from cli.main import main
from mlops.service.tokens import Role, Tokens


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["token", "new", *arguments])


def test_a_token_that_was_made_is_accepted_and_stands_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    made = {}
    for name, more in (
        ("ci", ("--role", "operator", "--route", "rag")),
        ("bob", ("--last-day", "2099-12-31")),
    ):
        done = run(name, "--file", str(path), *more)
        assert done.exit_code == 0, done.output
        made[name] = done.output.strip()
    tokens = Tokens(operator=None, viewer=None, file=path)
    assert tokens.grant_of(f"Bearer {made['ci']}").routes == frozenset({"rag"})
    assert tokens.grant_of(f"Bearer {made['bob']}").role is Role.VIEWER
    assert not [token for token in made.values() if token in path.read_text()]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_name_stands_once(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    assert run("ci", "--file", str(path)).exit_code == 0
    before = path.read_text()
    refused = run("ci", "--file", str(path))
    assert refused.exit_code == 1
    assert "has a token 'ci' already" in refused.output
    assert path.read_text() == before


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    assert run("ci", "--file", str(path), "--dry-run").exit_code == 0
    assert not path.exists()
