"""What the log costs and what it carries: spool, recorder, and the same outage for other ways.

`python -m bench.recorder`: some three minutes, in a temporary directory, with engines of its own.
`FULL=1` takes a backlog of 10 GiB in place of half of one; `ONLY=storing,outage` some of it.
"""

from __future__ import annotations

import sys

from bench.measures import Measures, run
from bench.recorder import outage, saturation, storing, writing
from gateway import compiled

MEASURES: Measures = {
    "offers": writing.offers,
    "lateness": writing.lateness,
    "extraction": storing.extraction,
    "storing": storing.storing,
    "memory": storing.memory,
    "outage": outage.outage,
    "saturation": saturation.saturation,
}


if __name__ == "__main__":
    path = "compiled" if compiled.active() else "plain Python"
    packages = ("uvloop", "msgspec", "chdb", "clickhouse-connect")
    sys.exit(run("recorder", MEASURES, packages, **{"request path": path}))
