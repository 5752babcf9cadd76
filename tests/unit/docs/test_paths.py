"""Files that the documents point at as evidence are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").rglob("*.md"))]
MADE = ("bench/out", "bench/.peers", "mlops/.env")
"""Made by commands, or by people."""
_PATH = re.compile(r"`((?:tests|bench|scripts|agent|gateway|mlops|cli|docs)/[\w./-]*\w)`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_is_named_exists(document: Path) -> None:
    named = set(_PATH.findall(document.read_text(encoding="utf-8")))
    gone = [path for path in named if not (ROOT / path).exists() and not path.startswith(MADE)]
    assert not gone
