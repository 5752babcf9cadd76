"""Every piece of YAML in the documents is one that the file it belongs to takes."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
import yaml

from agent.policy_file import PolicyError, parse_policy
from agent.settings import SettingsError
from agent.settings import load as load_agent
from cli.contexts import Contexts
from gateway.config import ConfigError, parse
from mlops.service.tokens import TokenEntry

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GATEWAY = {
    "listen": "listen: 127.0.0.1:0",
    "admin": "admin: {listen: 127.0.0.1:0}",
    "state": "state: s",
    "spool": "spool: {dir: d}",
    "routes": "routes: [{name: r, match: {prefix: /}, "
    "stable: {version: '1', endpoints: ['http://127.0.0.1:1']}}]",
}
ROUTE = {
    "name": "name: r",
    "match": "match: {prefix: /}",
    "stable": "stable: {version: '1', endpoints: ['http://127.0.0.1:1']}",
}
AGENT = {"memory": "memory: sqlite:///m", "gateways": "gateways: [{url: 'http://127.0.0.1:1'}]"}
NOT_OURS = ("apiVersion: kustomize",)
NO_FILES_HERE = re.compile(r"^modelServers: .*\n", re.MULTILINE)
"""Its certificate is read at once, and nobody has it."""


class Environment(Mapping[str, str]):
    """Every variable that a fragment names is set."""

    def __getitem__(self, name: str) -> str:
        if name.endswith("_URL"):
            return "https://hooks.example/x"
        return "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" if "SECRET" in name else f"of-{name}"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def completed(fragment: str, needed: Mapping[str, str]) -> str:
    """With what else the file must have."""
    there = re.findall(r"^(\w+):", fragment, re.MULTILINE)
    return "\n".join([*(line for key, line in needed.items() if key not in there), fragment])


def of_gateway(fragment: str, _: Path) -> None:
    parse(completed(fragment, GATEWAY), Environment())


def of_route(fragment: str, _: Path) -> None:
    route = textwrap.indent(completed(fragment, ROUTE), "    ")
    parse(completed(f"routes:\n  -\n{route}", GATEWAY), Environment())


def of_agent(fragment: str, folder: Path) -> None:
    file = folder / "agent.yaml"
    file.write_text(completed(NO_FILES_HERE.sub("", fragment), AGENT), encoding="utf-8")
    load_agent(file, Environment())


def of_policy(fragment: str, _: Path) -> None:
    parse_policy(yaml.safe_load(fragment))


def of_contexts(fragment: str, _: Path) -> None:
    msgspec.convert(yaml.safe_load(fragment), Contexts)


def of_tokens(fragment: str, folder: Path) -> None:
    """The tokens of a gateway, or the entries of the file that they name."""
    if fragment.startswith("- "):
        whole = fragment.replace("6b1f...", "6b1f" * 16)
        msgspec.convert(yaml.safe_load(whole), list[TokenEntry])
        return
    inner = textwrap.indent(fragment, "    ")
    of_gateway(f"admin:\n  listen: 127.0.0.1:0\n  tokens:\n{inner}", folder)


KINDS: tuple[Callable[[str, Path], None], ...] = (
    of_gateway, of_route, of_agent, of_policy, of_contexts, of_tokens,
)  # fmt: skip
REFUSED = (ConfigError, SettingsError, PolicyError, msgspec.ValidationError, ValueError)


def fragments() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        for block in re.findall(r"```yaml\n(.*?)```", document.read_text("utf-8"), re.DOTALL):
            if not block.startswith(NOT_OURS):
                yield str(document.relative_to(ROOT)), block


def test_there_are_fragments() -> None:
    """Or the test below tests nothing."""
    assert len(list(fragments())) > 20


@pytest.mark.parametrize(("document", "fragment"), list(fragments()))
def test_a_file_takes_it(document: str, fragment: str, tmp_path: Path) -> None:
    del document  # names the case
    refusals = []
    for kind in KINDS:
        try:
            kind(fragment, tmp_path)
        except REFUSED as error:
            refusals.append(f"{kind.__name__}: {error}")
        else:
            return
    pytest.fail("\n".join(refusals))


def test_a_misspelt_key_is_taken_by_none(tmp_path: Path) -> None:
    for kind in KINDS:
        with pytest.raises(REFUSED):
            kind("retries: {attempts: 2}\n", tmp_path)
