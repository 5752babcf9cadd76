"""The policies that come with the system, one for each strategy: YAML to read and to copy."""

from __future__ import annotations

from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).parent / "policies"


def strategies() -> tuple[str, ...]:
    """Their names."""
    return tuple(sorted(path.stem for path in DIRECTORY.glob("*.yaml")))
