"""One worker's data plane in a process of its own, for measuring: a proxy and a spool, no admin."""

import asyncio
import sys
from pathlib import Path

import uvloop

from gateway.proxy import Proxy
from gateway.routing import LivePlan
from gateway.settings import (
    Address,
    MatchSettings,
    RouteSettings,
    SpoolSettings,
    StickySettings,
)
from gateway.spool.writer import SpoolWriter
from mlops.contracts.plan import RoutePlan, Slot


async def serve(upstream: str, spool_dir: Path) -> None:
    spool = SpoolWriter.open(SpoolSettings(dir=spool_dir, limit_bytes=256 * 1024**2))
    stable = Slot(version="1", endpoints=(upstream,))
    route = RouteSettings(
        name="bench",
        model="bench",
        match=MatchSettings(),
        stable=stable,
        sticky=StickySettings(header="x-user-id"),
    )
    proxy = Proxy([route], spool)
    canary = Slot(version="2", endpoints=(upstream,))
    proxy.apply(
        LivePlan(
            RoutePlan(
                route="bench",
                generation=1,
                salt="bench",
                stable=stable,
                canary=canary,
                canary_share_bp=1000,
            )
        )
    )
    bound = await proxy.listen([Address(host="127.0.0.1", port=0)])
    print(f"ready http://127.0.0.1:{bound[0].port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], Path(sys.argv[2])))
