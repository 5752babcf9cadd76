"""`init` writes files that are accepted as they are, and as its comments suggest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from agent import settings as agent_settings
from agent.policy_file import load_policy
from cli.init import Answers, gateway_file, quick_gateway_file
from cli.main import main
from gateway import config

ENVIRONMENT = {
    "GATEWAY_OPERATOR_TOKEN": "one",
    "GATEWAY_VIEWER_TOKEN": "two",
    "AGENT_OPERATOR_TOKEN": "three",
    "AGENT_VIEWER_TOKEN": "four",
    "SLACK_WEBHOOK_URL": "http://127.0.0.1:9/hook",
}
FILES = ("gateway.yaml", "agent.yaml", "policy.yaml")
_OFF = re.compile(r"^(\s*)#(\s*)((?:- |[a-z_]+:).*)$", re.MULTILINE)
"""A line that is a key or an item once its # is gone; sentences begin with a capital."""


def init(directory: Path, *more: str, answers: str = "\n\n\n") -> Result:
    arguments = ["init", "--directory", str(directory), *more]
    return CliRunner().invoke(main, arguments, input=answers)


def accept(directory: Path) -> config.GatewaySettings:
    agent_settings.load(directory / "agent.yaml", ENVIRONMENT)
    load_policy(directory / "policy.yaml")
    return config.load(directory / "gateway.yaml", ENVIRONMENT)


def test_three_questions_give_three_files_that_are_accepted(tmp_path: Path) -> None:
    done = init(tmp_path, answers="http://127.0.0.1:9000\n2.0\nx-tenant\n")
    assert done.exit_code == 0, done.output
    (route,) = accept(tmp_path).routes
    assert route.stable.version == "2.0"
    assert route.stable.endpoints == ("http://127.0.0.1:9000",)
    assert route.sticky.header == "x-tenant"


def test_every_line_that_is_switched_off_is_accepted_when_it_is_on(tmp_path: Path) -> None:
    assert init(tmp_path).exit_code == 0
    for name in FILES:
        text = (tmp_path / name).read_text()
        on, count = _OFF.subn(
            lambda found: f"{found[1]}{found[2] if len(found[2]) > 1 else ''}{found[3]}", text
        )
        assert count, f"{name} shows nothing that is off"
        (tmp_path / name).write_text(on)
    (route,) = accept(tmp_path).routes
    assert route.canary is not None
    assert route.override


def test_a_dash_is_no_sticky_key(tmp_path: Path) -> None:
    assert init(tmp_path, "--sticky-header", "-", answers="\n\n").exit_code == 0
    (route,) = accept(tmp_path).routes
    assert route.sticky.header is None


def test_files_that_are_there_stay_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("mine")
    refused = init(tmp_path)
    assert refused.exit_code == 1
    assert "policy.yaml; --force replaces" in refused.output
    assert not (tmp_path / "gateway.yaml").exists()
    assert init(tmp_path, "--force").exit_code == 0
    accept(tmp_path)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    done = init(tmp_path, "--dry-run")
    assert done.exit_code == 0
    assert "setWeight: 5" in done.output
    assert not list(tmp_path.iterdir())


def test_an_address_that_is_none_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    refused = init(tmp_path, answers="model-server\n\n\n")
    assert refused.exit_code == 1
    assert "model-server" in refused.output
    assert not list(tmp_path.iterdir())


@given(version=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40))
def test_any_version_survives_the_file(version: str) -> None:
    answers = Answers(stable="http://127.0.0.1:1", version=version, sticky_header="")
    (route,) = config.parse(gateway_file(answers), {}).routes
    assert route.stable.version == version


def test_the_file_of_two_urls_splits_as_asked(tmp_path: Path) -> None:
    text = quick_gateway_file(
        "http://127.0.0.1:1", "http://127.0.0.1:2", 12.5, "127.0.0.1:0", "127.0.0.1:0", tmp_path
    )
    settings = config.parse(text, {})
    (route,) = settings.routes
    assert (route.canary_share_bp, settings.spool, settings.state_dir) == (1250, None, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected either --config FILE or --stable URL"),
        (["--canary", "http://127.0.0.1:2"], "expected either --config FILE or --stable URL"),
        (["--stable", "http://127.0.0.1:1", "--upgrade"], "--upgrade needs --config"),
    ],
)
def test_a_gateway_needs_a_file_or_an_address(arguments: list[str], said: str) -> None:
    refused = CliRunner().invoke(main, ["gateway", *arguments])
    assert refused.exit_code == 2
    assert said in refused.output


@pytest.mark.parametrize("name", FILES)
def test_validate_knows_each_kind_of_file(tmp_path: Path, name: str) -> None:
    assert init(tmp_path).exit_code == 0
    path = tmp_path / name
    said = CliRunner().invoke(main, ["validate", "-f", str(path)])
    assert said.output == f"{path}: a valid {path.stem} file\n"
    path.write_text(path.read_text() + "unknwon: 1\n")
    said = CliRunner().invoke(main, ["validate", "-f", str(path)])
    assert (said.exit_code, "unknwon" in said.stderr) == (1, True)
