"""What the command line says, and that the files in the documents are ones it accepts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from agent.settings import AgentFile
from cli.connect import connection
from cli.main import main
from gateway.config_file import GatewayFile, _file_in
from scripts.file_keys import rows

ROOT = Path(__file__).resolve().parents[3]

TOKENS = {"GATEWAY_OPERATOR_TOKEN": "one", "GATEWAY_VIEWER_TOKEN": "two", "KEY": "three"}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env=TOKENS)


def yaml_blocks(document: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def kind_of(block: str) -> str | None:
    if "routes:" in block and "listen:" in block:
        return "gateway"
    return "policy" if re.search(r"^steps:", block, re.MULTILINE) else None


DOCUMENTED = [
    (document, kind, block)
    for document in ("README.md", "docs/gateway.md", "docs/policy.md")
    for block in yaml_blocks(document)
    if (kind := kind_of(block)) is not None
]


@pytest.mark.parametrize(("document", "kind", "block"), DOCUMENTED)
def test_every_whole_file_in_the_documents_is_valid(
    tmp_path: Path, document: str, kind: str, block: str
) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(block)
    result = run("validate", "-f", str(path), "-o", "json")
    assert result.exit_code == 0, f"{document}: {result.output}"
    assert json.loads(result.output)["kind"] == kind


def test_the_documents_show_both_kinds_of_file() -> None:
    """Or the test above tests nothing."""
    assert {kind for _, kind, _ in DOCUMENTED} == {"gateway", "policy"}


def keys_of(kind: type[msgspec.Struct]) -> Iterator[str]:
    """Every key that the file may have, at any depth."""
    for field in msgspec.structs.fields(kind):
        yield field.name
        inner = _file_in(field.type)
        if inner is not None:
            yield from keys_of(inner)


def keys_shown(*documents: str) -> set[str]:
    return {
        key
        for document in documents
        for block in yaml_blocks(document)
        for key in re.findall(r"[A-Za-z_]+", block)
    }


def test_the_pages_show_every_key_of_the_gateways_file() -> None:
    elsewhere = set(keys_of(GatewayFile)) - keys_shown("docs/gateway.md")
    assert elsewhere <= keys_shown("docs/recorder.md", "docs/security.md")
    assert len(elsewhere) < 15, "its own page has nearly all of them"


def test_the_pages_show_every_key_of_the_agents_file() -> None:
    keys = {key.rpartition(".")[2].removesuffix("[]") for key, _, _ in rows(AgentFile)}
    pages = [f"docs/{name}.md" for name in ("agent", "security", "drift", "upstreams")]
    text = "".join((ROOT / page).read_text() for page in pages)
    said = " ".join(re.findall(r"`[^`]+`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))
    assert keys - keys_shown(*pages) - set(re.findall(r"\w+", said)) == set()


def test_a_bad_file_is_refused_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("listen: 127.0.0.1:0\nroute: []\n")
    result = run("validate", "-f", str(path))
    assert result.exit_code == 1
    assert "route" in result.output
    assert "routes" in result.output


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (("stable=90", "canary=5"), "sum to 95, expected 100"),
        (("stable=90",), "expected stable=PERCENT canary=PERCENT"),
        (("stable=ninety", "canary=10"), "expected ARM=PERCENT"),
    ],
)
def test_weights_that_cannot_be_are_refused_before_anybody_is_asked(
    assignments: tuple[str, ...], said: str
) -> None:
    result = run("weights", "set", "rag", *assignments)
    assert result.exit_code == 2
    assert said in result.output


def test_a_gateway_that_does_not_answer_is_listed_and_fails_the_command() -> None:
    """Nothing listens on port 9 of this machine."""
    environment = TOKENS | {"MLOPS_GATEWAY_ADMIN_URLS": "http://127.0.0.1:9"}
    result = CliRunner().invoke(main, ["rollback", "rag"], env=environment)
    assert result.exit_code == 1
    assert "http://127.0.0.1:9: not confirmed" in result.output


def test_the_environment_says_where_everything_is() -> None:
    found = connection(
        {
            "MLOPS_GATEWAY_ADMIN_URLS": "http://a:1, http://b:2/",
            "MLOPS_AGENT_URL": "http://c:3/",
            "GATEWAY_OPERATOR_TOKEN": "secret-one",
            "AGENT_OPERATOR_TOKEN": "secret-two",
        }
    )
    assert found.gateways == ("http://a:1", "http://b:2")
    assert found.agent == "http://c:3"
    assert "secret" not in repr(found)


def test_every_command_explains_itself() -> None:
    for name in main.commands:
        result = run(name, "--help")
        assert result.exit_code == 0
        assert len(result.output.splitlines()) > 3
