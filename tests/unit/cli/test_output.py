"""`-o`: the same value as JSON and YAML, and tables for people."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cli.output import print_data, print_entry, print_table

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(value=_VALUES)
def test_yaml_says_what_json_says(value: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("click.echo", lambda text, nl=True: said.append(text + "\n" * nl))
        print_data("json", value)
        print_data("yaml", value)
    assert yaml.safe_load(said[1]) == json.loads(said[0]) == value


def test_what_is_no_json_is_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    print_data("json", {"at": moment})
    print_data("yaml", {"at": moment})
    as_json, as_yaml = capsys.readouterr().out.split("}\n")
    assert json.loads(as_json + "}") == yaml.safe_load(as_yaml) == {"at": "2026-01-02T00:00:00Z"}


def test_entries_are_lines_or_documents(capsys: pytest.CaptureFixture[str]) -> None:
    for output in ("json", "yaml"):
        print_entry(output, {"a": 1})
        print_entry(output, {"a": 2})
        text = capsys.readouterr().out
        found = (
            [json.loads(line) for line in text.splitlines()]
            if output == "json"
            else list(yaml.safe_load_all(text))
        )
        assert found == [{"a": 1}, {"a": 2}]


def test_a_table_is_aligned_and_has_no_trailing_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "state"], [["a-long-name", "ok"], ["b", ""]])
    assert capsys.readouterr().out == "NAME          STATE\na-long-name   ok\nb\n"
