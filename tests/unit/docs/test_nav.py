"""Every page is in the site's contents, which a strict build wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from scripts.reference import pages

ROOT = Path(__file__).resolve().parents[3]


def listed(part: object) -> Iterator[str]:
    """Pages of the navigation, whatever they are called there."""
    if isinstance(part, str):
        yield part
    for inner in (
        part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    ):
        yield from listed(inner)


def test_every_page_is_in_the_navigation_once() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    docs = ROOT / "docs"
    written = {str(path.relative_to(docs)) for path in docs.rglob("*.md")}
    assert sorted(listed(nav)) == sorted(written | set(pages()))
