"""What the log costs and what it carries: spool, recorder, and the same outage for other ways.

`python -m bench.recorder`: some three minutes, in a temporary directory, with engines of its own.
`FULL=1` takes a backlog of 10 GiB in place of half of one; `ONLY=storing,outage` some of it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from bench.recorder import outage, saturation, storing, writing
from bench.report import Measured, write
from gateway import compiled

MEASURES: Mapping[str, Callable[[Path], list[Measured]]] = {
    "offers": writing.offers,
    "lateness": writing.lateness,
    "extraction": storing.extraction,
    "storing": storing.storing,
    "memory": storing.memory,
    "outage": outage.outage,
    "saturation": saturation.saturation,
}


def main() -> int:
    only = [name for name in os.environ.get("ONLY", "").split(",") if name]
    unknown = [name for name in only if name not in MEASURES]
    if unknown:
        print(f"ONLY: expected some of {', '.join(MEASURES)}; got {unknown}")
        return 2
    directory = Path(tempfile.mkdtemp(prefix="bench-recorder-"))
    rows: list[Measured] = []
    try:
        for name, measure in MEASURES.items():
            if not only or name in only:
                rows += measure(directory / name)
    finally:
        shutil.rmtree(directory)
    versions = {name: version(name) for name in ("uvloop", "msgspec", "chdb", "clickhouse-connect")}
    path = "compiled" if compiled.active() else "plain Python"
    write("recorder", rows, {**versions, "request path": path})
    return 0


if __name__ == "__main__":
    sys.exit(main())
