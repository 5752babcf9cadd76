"""A whole stack: how soon `up` is ready, and how fast a rollback when only the gateway is left."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Final

from bench.report import Measured
from mlops.config import read_config
from mlops.contracts.plan import RoutePlan, Slot
from mlops.deployment import RollbackManager
from mlops.deployment.gateway_client import GatewayClient
from mlops.local.child import free_ports
from mlops.local.stack import ANY_PORTS, Stack

ROLLBACKS: Final = 20
UP_GOAL_S: Final = 25.0
NOBODY: Final = "http://127.0.0.1:9"


def up(directory: Path) -> list[Measured]:
    """`rag-mlops up` in an empty directory, and where it has run before."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    def run(command: str) -> float:
        started_s = perf_counter()
        arguments = [sys.executable, "-W", "ignore::SyntaxWarning", "-m", "cli", command]
        subprocess.run(
            arguments, cwd=directory, env=environment, check=True, stdout=subprocess.DEVNULL
        )
        return perf_counter() - started_s

    rows = []
    for what in ("the first time, models trained", "again"):
        try:
            seconds = run("up")
        finally:
            run("down")
        rows.append(
            Measured(
                name=f"`rag-mlops up` until all parts are ready: {what}",
                value=seconds,
                unit="s",
                goal=f"<= {UP_GOAL_S:g}",
                holds=seconds <= UP_GOAL_S,
            )
        )
    return rows


def rollback(directory: Path) -> list[Measured]:
    """The slowest of some rollbacks, each after a new canary; agent, MLflow and ClickHouse away."""
    slowest = asyncio.run(_rollbacks(directory))
    return [
        Measured(
            name=f"slowest of {ROLLBACKS} emergency rollbacks, only the gateway is there",
            value=slowest,
            unit="s",
            goal="<= 1",
            holds=slowest <= 1,
        )
    ]


async def _rollbacks(directory: Path) -> float:
    stack = Stack(directory=directory, ports=ANY_PORTS, environ=os.environ)
    stable = Slot(version="1.0.0", endpoints=(NOBODY,))
    route = {"name": "rag", "model": "m", "match": {"prefix": "/"}}
    route["stable"] = {"version": "1.0.0", "endpoints": [NOBODY]}  # type: ignore[assignment]
    away = f"http://127.0.0.1:{free_ports(1)[0]}"
    try:
        await asyncio.to_thread(stack.start_gateway, [route])
        places = {"MLOPS_AGENT_URL": away, "MLOPS_MLFLOW_TRACKING_URI": away}
        config = read_config(stack.environment() | places, directory)
        manager = RollbackManager(config)
        took_s = []
        async with GatewayClient(
            stack.addresses["admin"], config.places.gateway_token, actor="bench"
        ) as client:
            for number in range(ROLLBACKS):
                live = (await client.route("rag")).plan
                canary = Slot(version=f"2.0.{number}", endpoints=(NOBODY,))
                await client.put_plan(
                    RoutePlan(
                        route="rag",
                        generation=live.generation + 1,
                        salt="r",
                        stable=stable,
                        canary=canary,
                        canary_share_bp=1_000,
                    )
                )
                started_s = perf_counter()
                result = await manager.emergency_rollback("m", "bench")
                took_s.append(perf_counter() - started_s)
                assert result.taken_back == (canary.version,), result
                assert (await client.route("rag")).share_bp == 0
        return max(took_s)
    finally:
        await asyncio.to_thread(stack.stop)
