"""Ask the gates, off the cycle: a gate that hangs keeps no lease from being renewed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from agent.providers import Providers, Said
from agent.release import Consult, GateAnswer, Release
from agent.rules import EMBEDDING_SPACE, Rules
from mlops.service.aio import spawn

log = logging.getLogger(__name__)

MAX_RUNNING = 64
"""Questions at a time: far more than releases with gates; past it the next cycle asks."""

MAX_WHY_CHARS = 300

Key = tuple[str, int, str]
"""Release, generation that is live while the question is asked, gate."""


class Gatekeeper:
    """Answers by release and generation; a new step asks anew."""

    def __init__(self, rules: Rules, providers: Providers, unix_s: Callable[[], float]) -> None:
        self.rules = rules
        self._providers = providers
        self._unix_s = unix_s
        self._answers: dict[Key, GateAnswer] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}
        self.wake: Callable[[], None] = lambda: None
        """Called with each answer: the next cycle reads it."""

    def answers(self, release: Release, named: Iterable[str]) -> Mapping[str, GateAnswer | None]:
        """Of every gate of the release, the one that is always there included."""
        names = [EMBEDDING_SPACE] if self.rules.guards_embedding_space else []
        names += named
        return {name: self._answers.get(_key(release, name)) for name in names}

    def consult(self, asked: Consult) -> None:
        """Begin to ask, unless that is under way."""
        for name in asked.gates:
            key = _key(asked.release, name)
            if key not in self._running and len(self._running) < MAX_RUNNING:
                self._running[key] = spawn(self._ask(key, asked.release), name=f"gate {name}")

    async def close(self) -> None:
        """Leave every question unanswered."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        await self._providers.close()

    def forget(self, known: Mapping[str, int]) -> None:
        """Keep the answers about each release's present generation only."""
        for key in list(self._answers):
            if known.get(key[0]) != key[1]:
                self._answers.pop(key)

    async def _ask(self, key: Key, release: Release) -> None:
        try:
            passed, why, refuses = await self._said(key[2], release)
        finally:
            self._running.pop(key, None)
        answer = GateAnswer(
            passed=passed, why=why[:MAX_WHY_CHARS], at_s=self._unix_s(), refuses=refuses
        )
        log.info("%s: gate %s says %s: %s", release.id, key[2], "yes" if passed else "no", why)
        self._answers[key] = answer
        self.wake()

    async def _said(self, name: str, release: Release) -> Said:
        try:
            if name == EMBEDDING_SPACE:
                return await self._providers.embedding_space(release.candidate)
            return await self._asked(name, release)
        except Exception as error:
            log.exception("BUG: gate %s failed; please report this", name)
            return False, f"could not be asked: {error}", False

    async def _asked(self, name: str, release: Release) -> Said:
        gate = self.rules.gates.get(name)
        if gate is None:
            known = ", ".join(self.rules.gates) or "none"
            return False, f"the agent's file has no such gate any more; it has: {known}", False
        try:
            async with asyncio.timeout(gate.timeout_s):
                passed, why = await self._providers.ask(gate, release)
        except TimeoutError:
            return False, f"no answer within {gate.timeout_s:g} s", False
        return passed, why, False


def generation_of(release: Release) -> int:
    """What is intended while the next step is asked for; 0 before the first."""
    return release.plan.generation if release.plan else 0


def _key(release: Release, name: str) -> Key:
    return release.id, generation_of(release), name
