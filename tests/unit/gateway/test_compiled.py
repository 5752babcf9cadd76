"""What was compiled is used only for the sources it was compiled from, and can be turned off."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import compiled


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::SyntaxWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        env=environment,
    )
    return done.stdout.strip()


def test_the_switch_turns_it_off() -> None:
    code = (
        "import gateway.flow, gateway.compiled\n"
        "print(gateway.flow.__file__)\n"
        "print(gateway.compiled.active())"
    )
    file, active = run(code, GATEWAY_PURE_PYTHON="1").splitlines()
    assert file.endswith("flow.py")
    assert active == "None"


def test_an_edited_module_is_never_shadowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in compiled.sources():
        copy = tmp_path / source.relative_to(compiled.PACKAGE)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(source.read_bytes())
    monkeypatch.setattr(compiled, "PACKAGE", tmp_path)
    before = compiled.directory()
    assert before.parent == tmp_path / "_compiled"
    edited = compiled.sources()[0]
    edited.write_bytes(edited.read_bytes() + b"\n")
    assert compiled.directory() != before
    edited.write_bytes(edited.read_bytes()[:-1])
    assert compiled.directory() == before


def test_every_module_named_is_there() -> None:
    assert all(source.is_file() for source in compiled.sources())


def test_no_compiled_class_has_keywords() -> None:
    """mypyc drops them without a word: a frozen msgspec type would not be frozen any more."""
    found = [
        f"{source.name}: {node.name}"
        for source in compiled.sources()
        for node in ast.walk(ast.parse(source.read_bytes()))
        if isinstance(node, ast.ClassDef) and node.keywords
    ]
    assert found == []
