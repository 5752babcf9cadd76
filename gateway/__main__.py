"""`python -m gateway --config FILE`: one gateway, until SIGTERM or an upgrade."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

import uvloop

from gateway.app import serve
from gateway.handover import UpgradeFailed
from gateway.worker_link import CannotStart


def main() -> int:
    """Serve until the end, code 0; code 2 where that cannot begin, and why on stderr."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the gateway's file (YAML)")
    parser.add_argument(
        "--upgrade",
        action="store_true",
        help="take over from the gateway that runs on the same state directory",
    )
    arguments = parser.parse_args()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        uvloop.run(serve(arguments.config, os.environ, upgrade=arguments.upgrade))  # noqa: TID251 - the one place
    except (ValueError, OSError, CannotStart, UpgradeFailed) as exc:
        sys.stderr.write(f"gateway: {exc}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
