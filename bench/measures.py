"""A benchmark made of several measures, all of them or those that `ONLY` names."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from bench.report import Measured, write

Measures = Mapping[str, Callable[[Path], list[Measured]]]
"""By name; each is given a folder of its own."""


def run(name: str, measures: Measures, packages: tuple[str, ...], **about: str) -> int:
    """Take the measures in their order, and write them with the versions; an exit code."""
    only = [one for one in os.environ.get("ONLY", "").split(",") if one]
    unknown = [one for one in only if one not in measures]
    if unknown:
        print(f"ONLY: expected some of {', '.join(measures)}; got {unknown}")
        return 2
    rows: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as directory:
        for one, measure in measures.items():
            if not only or one in only:
                folder = Path(directory) / one
                folder.mkdir()
                rows += measure(folder)
    write(name, rows, {package: version(package) for package in packages} | about)
    return 0
