"""Tell the story: a better version is promoted by evidence, a worse one is taken back.

Everything runs on free ports below one directory; the traffic is real queries against real model
servers, and nothing but the agent moves a weight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from cli.demo.report import Promoted, Report, RolledBack, check_log
from cli.demo.traffic import SCORE_NAME, Traffic
from cli.demo.view import View
from mlops.contracts.release import FAILED_PHASES, PROMOTED_PHASES, ReleaseStatus
from mlops.local.stack import ANY_PORTS, Stack
from mlops.service.aio import spawn
from mlops.serving.corpus import held_out_queries, load_corpus
from mlops.training.linear_adapter import prepare_demo_models

ROUTE = "rag"
RATE_PER_S = 120.0
"""Half of what two model servers, a gateway and a load generator reach on two shared cores."""

WARM_UP_TIMEOUT_S = 30.0
RELEASE_TIMEOUT_S = 110.0
"""Per release; both together with starting up stay below four minutes."""

POLL_S = 0.25
SEED = 7

POLICY: dict[str, Any] = {
    "steps": [
        {"setWeight": 10},
        {"pause": {"duration": "8s"}},
        {"setWeight": 25},
        {"pause": {"duration": "8s"}},
        {"setWeight": 50},
    ],
    "bake": {"duration": "10s"},
    "alpha": 0.05,
    "beta": 0.05,
    "lease": "10s",
    "grace": "5s",
    "dwell": "8s",
    "holdback": "5%",
    "checks": {
        "errors": {"margin": 0.02},
        "latency": {"quantiles": [0.5], "margin": "40%"},
        "score": {"field": SCORE_NAME, "margin": 0.05},
    },
}
"""Only the median of latency: a program that takes the processor from one of the two servers for
some tenths of a second doubles its p95, and that is not the version's doing."""

AS_A_MODEL = ("--delay-ms", "10")
"""The searches alone take less than a millisecond, and longer at a server that gets few of them and
finds caches cold: half as long again, of next to nothing. Models that read and write take more."""

WORSE_FAULTS = ("--delay-ms", "50", "--error-percent", "5", "--seed", "1")
"""Release 2 searches worse, answers slower, and fails one request in twenty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How one release went."""

    phase: str
    seconds: float
    canary_requests: int
    reason: str


class Story:
    """One run of the demo in `directory`. `keep` leaves the stack running afterwards."""

    def __init__(self, directory: Path, view: View, environ: Mapping[str, str]) -> None:
        self._view = view
        self._directory = directory
        self.stack = Stack(directory=directory, ports=ANY_PORTS, environ=environ)

    def start(self) -> None:
        """Train what is not trained yet, then start every process."""
        self._view.begin("preparing three versions of the model")
        self._models = prepare_demo_models(self._directory.parent / "models")
        self._view.begin("starting ClickHouse, two model servers, gateway, recorder and agent")
        self.stack.start_clickhouse()
        stable = self.stack.start_model("model-a", self._models["1.0.0"], 0, faults=AS_A_MODEL)
        self.stack.start_model("model-b", self._models["1.1.0"], 0, faults=AS_A_MODEL)
        self.stack.start_gateway(
            [
                {
                    "name": ROUTE,
                    "model": "rag_embedding_model",
                    "match": {"prefix": "/"},
                    "stable": {"version": "1.0.0", "endpoints": [stable]},
                    "sticky": {"header": "x-user-id"},
                }
            ]
        )
        self.stack.start_recorder()
        self.stack.start_agent()

    async def tell(self) -> Report:
        """Send traffic, run both releases, then count."""
        addresses = self.stack.addresses
        queries = held_out_queries(load_corpus(self._directory.parent / "models"))
        traffic = Traffic(
            gateway_url=addresses["gateway"],
            agent_url=addresses["agent"],
            agent_token=self.stack.secrets["AGENT_OPERATOR_TOKEN"],
            queries=queries,
            rate_per_s=RATE_PER_S,
            seed=SEED,
        )
        self._view.watch(traffic.counts)
        sending = spawn(traffic.run(), name="demo traffic")
        headers = {"Authorization": f"Bearer {self.stack.secrets['AGENT_OPERATOR_TOKEN']}"}
        try:
            async with aiohttp.ClientSession(headers=headers) as session:
                better, worse = await self._both_releases(session, traffic)
        finally:
            traffic.stop()
            await sending
        return await self._count(traffic, better, worse)

    async def _both_releases(
        self, session: aiohttp.ClientSession, traffic: Traffic
    ) -> tuple[Ended, Ended]:
        self._view.begin("real queries, all to version 1.0.0")
        async with asyncio.timeout(WARM_UP_TIMEOUT_S):
            await traffic.warm.wait()
        self._view.begin("release 1: version 1.1.0 finds the right document more often")
        better = await self._release(session, "1.1.0", self.stack.addresses["model-b"])
        self._view.say(f"release 1 {better.phase}, decided after {better.seconds:.0f} s")
        self._view.begin("release 2: version 1.2.0 is slower, fails at times and searches worse")
        worse_url = await asyncio.to_thread(
            self.stack.start_model, "model-c", self._models["1.2.0"], 0, faults=WORSE_FAULTS
        )
        worse = await self._release(session, "1.2.0", worse_url)
        self._view.say(f"release 2 {worse.phase}, decided after {worse.seconds:.0f} s")
        return better, worse

    async def _release(self, session: aiohttp.ClientSession, version: str, url: str) -> Ended:
        """Start a release and wait until it has settled or failed (bounded)."""
        loop = asyncio.get_running_loop()
        agent = self.stack.addresses["agent"]
        body = {
            "route": ROUTE,
            "version": version,
            "endpoints": [url],
            "policy": POLICY,
            "reason": "demo",
        }
        started_at = loop.time()
        async with session.post(f"{agent}/v1/releases", json=body) as answer:
            content = await answer.json()
            if answer.status >= 400:
                raise RuntimeError(f"the agent refused the release of {version}: {content}")
            release_id = content["id"]
        decided_s: float | None = None
        while True:
            async with session.get(f"{agent}/v1/releases/{release_id}") as answer:
                status = msgspec.json.decode(await answer.read(), type=ReleaseStatus)
            self._view.show(status)
            phase = status.phase
            elapsed_s = loop.time() - started_at
            if decided_s is None and phase in PROMOTED_PHASES | FAILED_PHASES:
                decided_s = elapsed_s
            ended = phase == "settled" or phase in FAILED_PHASES
            if ended or elapsed_s > RELEASE_TIMEOUT_S:
                return Ended(
                    phase=phase if ended else f"still {phase}",
                    seconds=round(decided_s or elapsed_s, 1),
                    canary_requests=status.canary_requests,
                    reason="; ".join(status.reasons),
                )
            await asyncio.sleep(POLL_S)

    async def _count(self, traffic: Traffic, better: Ended, worse: Ended) -> Report:
        counts = traffic.counts
        self._view.begin("counting rows against answers")
        log = await check_log(self.stack.clickhouse, counts.answered)
        self._view.end()
        false = []
        if better.phase != "settled":
            false.append(f"release 1 should have been promoted, it is {better.phase}")
        if worse.phase != "rolled_back":
            false.append(f"release 2 should have been rolled back, it is {worse.phase}")
        if log.missing or log.repeated or log.rows != len(counts.answered):
            false.append(
                f"{len(counts.answered)} answered but {log.rows} rows: {log.missing} ids without "
                f"a row, {log.repeated} with several"
            )
        if log.difference:
            false.append(f"the aggregates differ from the rows: {log.difference}")
        if counts.client_errors:
            false.append(f"{counts.client_errors} client errors, the last: {counts.last_error}")
        return Report(
            requests=counts.requests,
            answered=len(counts.answered),
            rows=log.rows,
            client_errors=counts.client_errors,
            promoted=Promoted(seconds=better.seconds, canary_requests=better.canary_requests)
            if better.phase == "settled"
            else None,
            rolled_back=RolledBack(
                seconds=worse.seconds, canary_requests=worse.canary_requests, reason=worse.reason
            )
            if worse.phase == "rolled_back"
            else None,
            false=false,
        )
