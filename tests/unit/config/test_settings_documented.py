"""Every setting stands in the documentation, with its default and meaning."""

from __future__ import annotations

from pathlib import Path

from mlops.config.names import SETTINGS

PAGE = Path(__file__).parents[3] / "docs/library.md"


def test_every_setting_is_documented_as_it_is() -> None:
    _, _, section = PAGE.read_text(encoding="utf-8").partition("\n## Settings\n")
    section, _, _ = section.partition("\n## ")
    rows = [line for line in section.splitlines() if line.startswith("| `")]

    expected = [
        f"| `{one.name}` | {f'`{one.default}`' if one.default else ''} | {one.meaning} |"
        for one in SETTINGS
    ]

    assert rows == expected
