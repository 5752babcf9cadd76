"""Dynamic batching: texts of requests that wait at the same time are embedded in one call.

While one batch is computed the next one gathers, so that the model is never idle while somebody
waits. A request that finds the server idle is computed at once. After a batch of several, the next
one waits for as many again, but never longer than `BatchSettings.max_delay_s`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from mlops.service.aio import spawn
from mlops.serving.bodies import BadRequest, Side
from mlops.serving.embedder import Vectors

MAX_WAITING_TEXTS: Final = 4_096
"""64 full batches: seconds of work at the least. Whoever comes then is told to come again."""

Embedded = tuple[Vectors, int]
"""The vector of one text, and its number of tokens (0 where the model does not say)."""


class Embeds(Protocol):
    """A model, as far as batching goes."""

    def embed_many(self, texts: Sequence[str], side: Side = "document") -> list[Embedded]:
        """One result for each text, in order. Runs in a thread, one call at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """How much goes into one call of the model."""

    max_texts: int = 64
    """1: one by one. Past some dozens a call takes as much longer as it does more."""
    max_delay_s: float = 0.002
    """Longest wait for company; a fraction of what one call of a transformer takes."""

    def __post_init__(self) -> None:
        if self.max_texts < 1:
            raise ValueError(f"max_texts is {self.max_texts}, expected 1 or more")
        if not 0 <= self.max_delay_s <= 1:
            raise ValueError(f"max_delay_s is {self.max_delay_s:g}, expected 0 to 1 second")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batched:
    """One call of the model, for the metrics."""

    requests: int
    texts: int
    waited_s: float
    """By the request that waited longest, until the call began."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    model: Embeds
    texts: Sequence[str]
    side: Side
    since_s: float
    result: asyncio.Future[list[Embedded]]


class Batcher:
    """One for a server: a batch holds requests of one model and side only, also while versions
    change."""

    def __init__(
        self,
        settings: BatchSettings | None = None,
        observe: Callable[[Batched], None] = lambda _: None,
    ) -> None:
        """`observe` is told of every call of a model."""
        self._settings = settings or BatchSettings()
        self._observe = observe
        self._waiting: deque[_Waiting] = deque()
        self._enough = asyncio.Event()
        self.waiting_texts = 0
        """Texts that are in no batch yet."""
        self._running = False
        self._company = 1
        """Requests in the batch before; as many are expected again."""

    async def embed(
        self, model: Embeds, texts: Sequence[str], side: Side = "document"
    ) -> list[Embedded]:
        """Embed the texts of one request, in order.

        Raises:
            BadRequest: 503, too many wait already.
            What the model raises for these texts; other requests of the batch are not touched.
        """
        if self.waiting_texts + len(texts) > MAX_WAITING_TEXTS:
            raise BadRequest(
                f"{self.waiting_texts} texts wait to be embedded, at most {MAX_WAITING_TEXTS}",
                status=503,
                code="busy",
            )
        loop, size = asyncio.get_running_loop(), self._settings.max_texts
        parts = [
            _Waiting(model, texts[start : start + size], side, loop.time(), loop.create_future())
            for start in range(0, len(texts), size)
        ]
        self._waiting.extend(parts)
        self.waiting_texts += len(texts)
        if self._has_company():
            self._enough.set()
        if not self._running:
            self._running = True
            spawn(self._run(), name="embed batches")
        if len(parts) == 1:
            return await parts[0].result
        results = await asyncio.gather(*(part.result for part in parts))
        return [one for result in results for one in result]

    async def _run(self) -> None:
        """Until nobody waits."""
        try:
            while self._waiting:
                await self._gather()
                if batch := self._take():
                    self._company = len(batch)
                    await _embed(batch, self._observe)
        finally:
            self._running = False

    async def _gather(self) -> None:
        """Wait for the company that is expected, up to the bound."""
        if self._has_company():
            return
        self._enough.clear()
        deadline_s = self._waiting[0].since_s + self._settings.max_delay_s
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline_s):
                await self._enough.wait()

    def _has_company(self) -> bool:
        return len(self._waiting) >= self._company or self.waiting_texts >= self._settings.max_texts

    def _take(self) -> list[_Waiting]:
        """The next batch, in order of arrival; requests whose client went away are left out."""
        batch: list[_Waiting] = []
        texts = 0
        while self._waiting:
            one = self._waiting[0]
            is_wanted = not one.result.done()
            if is_wanted:
                texts += len(one.texts)
                if batch and (texts > self._settings.max_texts or not _go_together(one, batch[0])):
                    break
                batch.append(one)
            self._waiting.popleft()
            self.waiting_texts -= len(one.texts)
        return batch


def _go_together(one: _Waiting, other: _Waiting) -> bool:
    return one.model is other.model and one.side == other.side


async def _embed(batch: Sequence[_Waiting], observe: Callable[[Batched], None]) -> None:
    """One call for all of them; where it fails, one for each, so that a text that breaks the model
    breaks only its own request."""
    texts = [text for one in batch for text in one.texts]
    waited_s = asyncio.get_running_loop().time() - batch[0].since_s
    observe(Batched(requests=len(batch), texts=len(texts), waited_s=waited_s))
    try:
        results = await asyncio.to_thread(batch[0].model.embed_many, texts, batch[0].side)
        assert len(results) == len(texts), f"{len(results)} results for {len(texts)} texts"
    except Exception as error:
        if len(batch) == 1:
            if not batch[0].result.done():
                batch[0].result.set_exception(error)
            return
        for one in batch:
            await _embed([one], observe)
        return
    start = 0
    for one in batch:
        if not one.result.done():
            one.result.set_result(results[start : start + len(one.texts)])
        start += len(one.texts)
