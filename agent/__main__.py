"""`python -m agent --config FILE`: watch releases and move the weights, until SIGTERM."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

import uvloop

from agent.app import serve
from agent.memory import MemoryUnavailable
from mlops.feature_store.data_frames import leave_out_data_frames


def main() -> int:
    """The exit code: 2 where it cannot start, after a line that says why."""
    parser = argparse.ArgumentParser(prog="python -m agent", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the agent's file (YAML)")
    arguments = parser.parse_args()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    leave_out_data_frames()  # the judge needs numpy
    try:
        uvloop.run(serve(arguments.config, os.environ))  # noqa: TID251  the one place
    except (ValueError, OSError, MemoryUnavailable) as error:
        sys.stderr.write(f"agent: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
