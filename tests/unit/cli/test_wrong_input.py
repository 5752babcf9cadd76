"""Wrong input is refused by name, with what was expected; nothing is done by half."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from cli import archive, doctor
from cli.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_NO_ANSWER
from cli.main import main
from mlops.doctor.findings import Finding, State

GATEWAY = """
listen: 127.0.0.1:8000
admin: {listen: 127.0.0.1:8001, tokens: {operator: {env: NOT_SET_ANYWHERE}}}
state: state
spool: {dir: spool, limit: 2GiB}
routes:
  - {name: rag, match: {prefix: /}, stable: {version: "1", endpoints: ["http://127.0.0.1:9"]}}
"""
NOBODY = "http://127.0.0.1:1"
"""A port of the system's that nothing here listens on."""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gateway.yaml").write_text(GATEWAY)


def run(*words: str, given: str | None = None, **environ: str) -> Result:
    asked = {"MLOPS_GATEWAY_ADMIN_URLS": NOBODY, "MLOPS_AGENT_URL": NOBODY}
    return CliRunner().invoke(main, list(words), input=given, env=asked | environ)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("spool cat --dir . --limit 0", "0 is not in the range x>=1"),
        ("spool ls --dir gateway.yaml", "'gateway.yaml' is a file"),
        ("recorder --config gateway.yaml --metrics-port 70000", "0<=x<=65535"),
        ("recorder --config gateway.yaml --drain -1", "-1.0 is not in the range x>=0"),
        ("model-server --model . --port 70000", "0<=x<=65535"),
        ("release status rag --timeout -1", "-1.0 is not in the range x>=0"),
        ("drift gateway.yaml --column a --reference 0", "0 is not in the range x>=1"),
        ("weights set rag stable=90 canary=5 canary=10", "'canary=10': canary is there twice"),
        ("gateway --config gateway.yaml --canary http://127.0.0.1:8012", "--canary needs --stable"),
        ("gateway --config gateway.yaml --listen 127.0.0.1:1", "--listen needs --stable"),
        ("gateway --stable http://127.0.0.1:8011 --weight 5", "--weight needs --canary"),
        ("gateway --stable http://a:1 --canary http://b:1 --weight 96", "0<=x<=95.0"),
        ("erase --user=", "--user is empty"),
        (
            "archive restore query_features --day 2026-11-05 --until 2026-11-01",
            "--until 2026-11-01 is before --day 2026-11-05",
        ),
        (
            "release start rag --version 2 --endpoint 127.0.0.1:8012 --reason new --dry-run",
            "'127.0.0.1:8012': expected http://HOST:PORT",
        ),
        ("release start rag --version 2 --endpoint http://a:1 --reason=", "--reason is empty"),
        ("token new ann --route=", "--route is empty"),
        (
            "retrain extract --partition p --since 2026-01-02 --until 2026-01-01",
            "since before until",
        ),
        ("release replay rel-1 --since 2026-11-01", "--since needs --what-if"),
    ],
)
def test_wrong_use_is_named(line: str, said: str) -> None:
    refused = run(*line.split())
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert said in refused.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("token new ann --file gone/tokens.yaml", "gone/.tokens.yaml.new: No such file"),
        ("spool ls --config gateway.yaml", "the spool spool, which is not there"),
        ("explain --config gateway.yaml --key a --weights 10", "'10': expected two like"),
        ("explain --config gateway.yaml --key a --weights 10,20", "sum to 30, expected 100"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(line: str, said: str) -> None:
    refused = run(*line.split())
    assert (refused.exit_code, refused.stdout) == (EXIT_FAILED, "")
    assert said in refused.stderr


def test_a_spool_is_looked_into_without_the_gateways_secrets() -> None:
    Path("spool").mkdir()
    assert run("spool", "ls", "--config", "gateway.yaml").exit_code == 0


def test_a_policy_without_steps_is_told_by_its_checks() -> None:
    Path("policy.yaml").write_text("checks: {errors: {margin: 0.01}}\n")
    assert run("validate", "-f", "policy.yaml").stdout == "policy.yaml: a valid policy file\n"


def test_a_question_without_an_answer_names_the_way_out() -> None:
    refused = run("init")
    assert refused.exit_code == EXIT_FAILED
    assert "--help names its option" in refused.stderr
    assert not Path("agent.yaml").exists()


def test_ctrl_c_at_a_question_is_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "cli.refusals.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    )
    assert run("init").exit_code == EXIT_INTERRUPTED


def test_files_of_ours_that_are_bad_are_no_silence_of_the_agent() -> None:
    refused = run("release", "list", MLOPS_TLS_CA="gone.pem")
    assert refused.exit_code == EXIT_FAILED
    assert "gone.pem: cannot be read" in refused.stderr
    assert "did not answer" not in refused.stderr


def test_a_store_that_is_away_is_told_from_one_that_refuses() -> None:
    environ = {"MLOPS_MINIO_ENDPOINT": "127.0.0.1:1", "MLOPS_MINIO_ACCESS_KEY": "a",
               "MLOPS_MINIO_SECRET_KEY": "b"}  # fmt: skip
    assert run("artifacts", "list", **environ).exit_code == EXIT_NO_ANSWER


@pytest.mark.parametrize("line", ["rollback rag", "weights get rag"])
def test_no_gateway_at_all_is_no_success(line: str) -> None:
    refused = run(*line.split(), MLOPS_GATEWAY_ADMIN_URLS=",")
    assert refused.exit_code == EXIT_FAILED
    assert "no gateway is named" in refused.stderr


def test_a_route_is_not_called_unknown_while_gateways_are_silent() -> None:
    asked = run("status", "rag")
    assert asked.exit_code == EXIT_NO_ANSWER
    assert "no gateway has a route" not in asked.output


def test_settings_are_a_line_each_where_nobody_looks_at_a_terminal() -> None:
    lines = run("config").stdout.splitlines()
    (line,) = (one for one in lines if one.startswith("MLOPS_MODEL_REGISTRY_STAGE"))
    assert "version meant where none is named" in line


def test_a_finding_is_a_line_where_nobody_looks_at_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = [Finding(part="MLflow", state=State.FAILED, what="<html>\nno", mend="start it"),
             Finding(part="disk", state=State.OK, what="9 GiB free")]  # fmt: skip
    doctor._print(found)
    assert (
        capsys.readouterr().out == "failed  MLflow: <html> no -> start it\nok  disk: 9 GiB free\n"
    )


@pytest.fixture
def erased(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whom the command would have erased, asked in a terminal."""
    asked: list[str] = []

    async def erase(user_id: str, *_: object, dry_run: bool) -> archive.Erased:
        asked.append(f"{user_id} {dry_run}")
        return archive.Erased(rows=0, evaluations=0, dead_letters=0)

    monkeypatch.setattr(archive, "_erase", erase)
    return asked


@pytest.mark.parametrize(
    ("words", "given", "done"),
    [
        ((), "n\n", []),
        ((), "y\n", ["ann False"]),
        (("--yes",), "", ["ann False"]),
        (("--dry-run",), "", ["ann True"]),
    ],
)
def test_in_a_terminal_an_erasure_is_asked_about(
    words: tuple[str, ...],
    given: str,
    done: list[str],
    erased: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("cli.options.sys", terminal)
    ended = run("erase", "--user", "ann", *words, given=given)
    assert ended.exit_code == (0 if done else EXIT_FAILED)
    assert erased == done
    assert "Erase" not in ended.stdout


def test_a_program_that_erases_is_not_asked(erased: list[str]) -> None:
    assert run("erase", "--user", "ann").exit_code == 0
    assert erased == ["ann False"]
