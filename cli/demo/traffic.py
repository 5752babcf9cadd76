"""Real queries from many users at a bounded rate, and their late scores."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from mlops.service.aio import spawn
from mlops.serving.corpus import reciprocal_rank

SCORE_NAME = "reciprocal_rank"

USERS = 500
"""Distinct values of the sticky header: enough for 10 % to be close to a tenth of the traffic."""

MAX_OPEN_REQUESTS = 64
"""Past that the schedule waits: a slow system gets less traffic, not a pile of it."""

WARM_UP_REQUESTS = 400

SCORE_BATCH_S = 0.5
MAX_PENDING_SCORES = 10_000
"""About a minute at the demo's rate; older ones are forgotten, a score is optional evidence."""

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=15)
GATEWAY_STATUSES = frozenset({502, 503, 504})
"""The model servers never answer these: the gateway made them."""


@dataclass(slots=True)
class TrafficCounts:
    """What clients saw: the demo counts it against the log."""

    requests: int = 0
    answered: set[str] = field(default_factory=set)
    """Request ids whose answer arrived whole."""
    statuses: Counter[int] = field(default_factory=Counter)
    served_by: Counter[str] = field(default_factory=Counter)
    client_errors: int = 0
    """Failures of the gateway's own: broken connections, timeouts, 502, 503, 504."""
    last_error: str = ""


class Traffic:
    """Posts held-out queries through the gateway, and scores to the agent.

    The traffic knows the right document of each query, so its score means the same whatever
    embedding space the version that answered searches in.
    """

    def __init__(
        self,
        *,
        gateway_url: str,
        agent_url: str,
        agent_token: str,
        queries: Sequence[tuple[str, str]],
        rate_per_s: float,
        seed: int,
    ) -> None:
        self.counts = TrafficCounts()
        self._gateway_url = gateway_url
        self._scores_url = f"{agent_url}/v1/evaluations"
        self._agent_headers = {"Authorization": f"Bearer {agent_token}"}
        self._queries = queries
        self._interval_s = 1 / rate_per_s
        self._random = random.Random(seed)  # noqa: S311  traffic, not a secret
        self._scores: deque[dict[str, object]] = deque(maxlen=MAX_PENDING_SCORES)
        self._open = asyncio.Semaphore(MAX_OPEN_REQUESTS)
        self._stop = asyncio.Event()
        self.warm = asyncio.Event()
        """Set once `WARM_UP_REQUESTS` were answered."""

    def stop(self) -> None:
        """Let `run` send nothing more."""
        self._stop.set()

    async def run(self) -> None:
        """Send until `stop`, then wait for what is open and post the last scores."""
        connector = aiohttp.TCPConnector(limit=MAX_OPEN_REQUESTS)
        async with aiohttp.ClientSession(connector=connector, timeout=REQUEST_TIMEOUT) as session:
            scores = spawn(self._post_scores(session), name="post scores")
            await self._send_on_schedule(session)
            for _ in range(MAX_OPEN_REQUESTS):
                await self._open.acquire()
            await scores
            await self._post_batch(session)

    async def _send_on_schedule(self, session: aiohttp.ClientSession) -> None:
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        while not self._stop.is_set():
            await self._open.acquire()
            spawn(self._one(session), name="demo query")
            next_at = max(next_at + self._interval_s, loop.time() - 1)
            try:
                await asyncio.wait_for(self._stop.wait(), max(0.0, next_at - loop.time()))
            except TimeoutError:
                continue

    async def _one(self, session: aiohttp.ClientSession) -> None:
        text, document_id = self._random.choice(self._queries)
        user = f"user-{self._random.randrange(USERS)}"
        request_id = f"{self._random.getrandbits(64):016x}"
        body = {"query_text": text, "user_id": user, "session_id": f"{user}-1", "top_k": 10}
        headers = {"x-user-id": user, "x-request-id": request_id}
        self.counts.requests += 1
        try:
            async with session.post(
                f"{self._gateway_url}/query", json=body, headers=headers
            ) as answer:
                content = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.counts.client_errors += 1
            self.counts.last_error = f"{type(error).__name__}: {error}"
            return
        finally:
            self._open.release()
        self._count(request_id, answer)
        if answer.status == 200:
            rank = reciprocal_rank(content["documents"], document_id)
            self._scores.append({"request_id": request_id, "name": SCORE_NAME, "score": rank})

    def _count(self, request_id: str, answer: aiohttp.ClientResponse) -> None:
        self.counts.answered.add(request_id)
        if len(self.counts.answered) >= WARM_UP_REQUESTS:
            self.warm.set()
        self.counts.statuses[answer.status] += 1
        self.counts.served_by[answer.headers.get("x-served-by", "")] += 1
        if answer.status in GATEWAY_STATUSES:
            self.counts.client_errors += 1
            self.counts.last_error = f"status {answer.status} made by the gateway"

    async def _post_scores(self, session: aiohttp.ClientSession) -> None:
        while not self._stop.is_set():
            await self._post_batch(session)
            try:
                await asyncio.wait_for(self._stop.wait(), SCORE_BATCH_S)
            except TimeoutError:
                continue

    async def _post_batch(self, session: aiohttp.ClientSession) -> None:
        batch = [self._scores.popleft() for _ in range(min(len(self._scores), 500))]
        if not batch:
            return
        try:
            async with session.post(
                self._scores_url, json=batch, headers=self._agent_headers
            ) as answer:
                answer.raise_for_status()
        except (aiohttp.ClientError, TimeoutError):
            self._scores.extendleft(reversed(batch))
