"""Which version of the program this is."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = "rag-mlops"


@cache
def program_version() -> str:
    """Of the installed package; of a checkout or an image, what its pyproject.toml says.

    `unknown` where there is neither.
    """
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        project = Path(__file__).parents[2] / "pyproject.toml"
    try:
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    except (OSError, tomllib.TOMLDecodeError, LookupError):
        return "unknown"
