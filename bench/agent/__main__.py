"""`make bench-agent`: what a cycle costs, how fast a fleet converges and a catastrophe ends."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from bench.agent import catastrophe, convergence, cycles
from bench.report import write
from mlops.local.stack import ANY_PORTS, Stack


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="bench-agent-") as name:
        stack = Stack(directory=Path(name), ports=ANY_PORTS, environ=os.environ)
        try:
            stack.start_clickhouse()
            stack.start_gateway(cycles.routes())
            rows = asyncio.run(cycles.measure(stack, Path(name)))
        finally:
            stack.stop()
    rows += asyncio.run(convergence.measure())
    with tempfile.TemporaryDirectory(prefix="bench-agent-") as name:
        stack = Stack(directory=Path(name), ports=ANY_PORTS, environ=os.environ)
        try:
            rows += asyncio.run(catastrophe.measure(stack))
        finally:
            stack.stop()
    versions = {name: version(name) for name in ("clickhouse-connect", "numpy", "sqlalchemy")}
    write("agent", rows, versions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
