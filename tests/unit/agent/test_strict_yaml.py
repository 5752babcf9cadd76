"""A key given twice is an error in everything that the agent reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.settings import SettingsError, load
from agent.strict_yaml import NotYaml, read_yaml


def test_plain_values_are_read() -> None:
    assert read_yaml(b"a: 1\nb: [x, {c: 2}]\n") == {"a": 1, "b": ["x", {"c": 2}]}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a: 1\na: 2\n", "'a' is given twice"),
        (b"a: {b: 1, b: 2}\n", "'b' is given twice"),
        (b"? [a]\n: 1", "expected a word as the key"),
        (b"a: !!timestamp soon", "not YAML"),
        (b"\xff\xfe\xff", "not YAML"),
        (b"[" * 5_000, "not YAML"),
    ],
)
def test_what_is_no_yaml_says_so(content: bytes, expected: str) -> None:
    with pytest.raises(NotYaml, match=expected):
        read_yaml(content)


@pytest.mark.parametrize("twice", ["freeze: []", "gates: []", "maxWeight: 90"])
def test_no_rule_of_the_agents_file_is_lost_to_a_second_one(tmp_path: Path, twice: str) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(
        'gateways: [{url: "http://127.0.0.1:8001"}]\n'
        'freeze: [{days: [fri], from: "18:00", to: "08:00"}]\n'
        "gates: [{name: calm, provider: {web: {url: http://ops}}}]\n"
        f"maxWeight: 10\n{twice}\n"
    )
    with pytest.raises(SettingsError, match="is given twice"):
        load(path, {})
