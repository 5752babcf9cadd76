"""`python -m mlops.training --out DIR`: make the versions of the model and print their quality."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from time import perf_counter


def main() -> int:
    """Make what is missing, then print one line for each version."""
    # Read by numpy when it is loaded: threads that wait for each other cost three times the CPU.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # noqa: TID251  composition root
    from mlops.serving.model import read_manifest  # noqa: PLC0415
    from mlops.training.linear_adapter import prepare_demo_models  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m mlops.training", allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True, help="directory for the versions")
    directory: Path = parser.parse_args().out
    started_s = perf_counter()
    versions = prepare_demo_models(directory)
    taken_s = perf_counter() - started_s
    for version, path in versions.items():
        metrics = read_manifest(path).metrics
        figures = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        sys.stdout.write(f"{version}  {figures}  {path}\n")
    sys.stdout.write(f"prepared in {taken_s:.1f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
