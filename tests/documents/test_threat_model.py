"""The threat model names what shows each of its promises: that it is there, and has tests."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADING = "## Who is trusted with what"


def table() -> list[list[str]]:
    """Its rows, without the head; an empty first cell is of the entry point above it."""
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    section = page.split(HEADING)[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_promise_of_an_entry_point_names_what_shows_it() -> None:
    rows = table()
    assert len([row for row in rows if row[0]]) >= 12
    for *_, promise, shown in rows:
        assert promise
        assert "`" in shown, promise


def test_what_shows_it_is_there() -> None:
    targets = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    for *_, shown in table():
        for name in re.findall(r"`([^`]+)`", shown):
            if name.startswith("make "):
                assert name.removeprefix("make ") in targets, name
            else:
                assert has_tests(ROOT / name), name


def has_tests(path: Path) -> bool:
    files = path.rglob("test_*.py") if path.is_dir() else [path] if path.is_file() else []
    return any(re.search(r"^(async )?def test_", file.read_text("utf-8"), re.M) for file in files)
