"""Which environment the commands talk to."""

from __future__ import annotations

import json
import pwd
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from cli.connect import connection
from cli.doctor import _in_context
from cli.main import main
from mlops.config import read_config

FILE = """
current: staging
contexts:
  staging: {gateways: ["http://127.0.0.1:1/"], agent: "http://127.0.0.1:2/"}
  production:
    gateways: ["http://127.0.0.1:3", "http://127.0.0.1:4"]
    gateway_token: {env: PRODUCTION_GATEWAY}
    agent: http://127.0.0.1:5
    agent_token: {env: PRODUCTION_AGENT}
"""
TOKENS = {"PRODUCTION_GATEWAY": "secret-one", "PRODUCTION_AGENT": "secret-two"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "contexts.yaml").write_text(FILE)
    return {"RAG_MLOPS_CONFIG": str(tmp_path / "contexts.yaml"), **TOKENS}


def run(environment: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env=environment)


def test_a_user_without_a_home_has_no_contexts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And rolls back all the same: its number may have no name either."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert connection({}).gateways == ("http://127.0.0.1:8001",)


def test_the_current_context_says_where_everything_is(environment: dict[str, str]) -> None:
    found = connection(environment)
    assert found.gateways == ("http://127.0.0.1:1",)
    assert found.agent == "http://127.0.0.1:2"
    assert not found.gateway_token


def test_a_context_that_is_chosen_wins_over_the_environment(environment: dict[str, str]) -> None:
    environment["MLOPS_GATEWAY_ADMIN_URLS"] = "http://127.0.0.1:9"
    assert connection(environment).gateways == ("http://127.0.0.1:9",)
    found = connection(environment, "production")
    assert found.gateways == ("http://127.0.0.1:3", "http://127.0.0.1:4")
    assert (found.gateway_token, found.agent_token) == ("secret-one", "secret-two")
    assert "secret" not in repr(found)


def test_each_side_is_taken_from_the_environment_or_from_the_current_context(
    environment: dict[str, str],
) -> None:
    """With its own token: none is shown to a server of another environment."""
    environment |= {"MLOPS_AGENT_URL": "http://127.0.0.1:8", "AGENT_OPERATOR_TOKEN": "here",
                    "GATEWAY_OPERATOR_TOKEN": "here", "MLOPS_TLS_CA": "here.pem"}  # fmt: skip
    Path(environment["RAG_MLOPS_CONFIG"]).write_text(
        FILE.replace("current: staging", "current: production")
    )
    found = connection(environment)
    assert (found.agent, found.agent_token) == ("http://127.0.0.1:8", "here")
    assert (found.gateways[0], found.gateway_token) == ("http://127.0.0.1:3", "secret-one")
    assert found.tls.ca == "here.pem"
    del environment["MLOPS_AGENT_URL"]
    assert connection(environment).agent_token == "secret-two"


def test_doctor_looks_at_the_context_too(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _in_context(read_config({}, tmp_path)).places.agent_url == "http://127.0.0.1:8002"
    monkeypatch.setenv("RAG_MLOPS_CONFIG", environment["RAG_MLOPS_CONFIG"])
    places = _in_context(read_config({}, tmp_path)).places
    assert (places.gateway_admin_urls, places.agent_url) == (
        ("http://127.0.0.1:1",), "http://127.0.0.1:2",
    )  # fmt: skip


def test_the_option_reaches_the_command(environment: dict[str, str]) -> None:
    for chosen in (("--context", "production"), ()):
        by_variable = {} if chosen else {"RAG_MLOPS_CONTEXT": "production"}
        ended = run(environment | by_variable, *chosen, "rollback", "rag")
        assert "http://127.0.0.1:3: not confirmed" in ended.output
        assert "http://127.0.0.1:1:" not in ended.output


def test_a_token_that_is_not_set_is_named(environment: dict[str, str]) -> None:
    del environment["PRODUCTION_AGENT"]
    with pytest.raises(click.ClickException, match="PRODUCTION_AGENT is not set"):
        connection(environment, "production")


def test_a_context_nobody_knows_is_named_with_those_there_are(environment: dict[str, str]) -> None:
    refused = run(environment, "context", "use", "prod")
    assert refused.exit_code == 1
    assert "no context 'prod'; the file's contexts: staging, production" in refused.output


def test_use_changes_what_is_current_and_nothing_else(environment: dict[str, str]) -> None:
    path = Path(environment["RAG_MLOPS_CONFIG"])
    assert run(environment, "context", "use", "production", "--dry-run").exit_code == 0
    assert path.read_text() == FILE
    assert run(environment, "context", "use", "production").exit_code == 0
    before, after = yaml.safe_load(FILE), yaml.safe_load(path.read_text())
    assert after.pop("current") == "production"
    assert before.pop("current") == "staging"
    assert after["contexts"]["staging"]["agent"] == before["contexts"]["staging"]["agent"]
    shown = json.loads(run(environment, "context", "list", "-o", "json").output)
    assert shown["current"] == "production"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("contexts: {a: {gateway: []}}", "gateway"),
        ("contexts: {a: {gateways: [], agent: x, agent_token: written-out}}", "agent_token"),
        ("current: [", "contexts.yaml"),
    ],
)
def test_a_file_that_is_not_right_is_refused(
    environment: dict[str, str], text: str, said: str
) -> None:
    Path(environment["RAG_MLOPS_CONFIG"]).write_text(text)
    refused = run(environment, "context", "list")
    assert refused.exit_code == 1
    assert said in refused.output
    assert "written-out" not in refused.output
