"""Tell others of every transition: Slack-compatible, or signed as Standard Webhooks says.

The outbox is filled in the transaction that remembers the transition, so neither a crash nor a
restart loses one. The leader delivers, each once; where it dies between an answer and its note, the
next one repeats it under the same `webhook-id`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import aiohttp
import msgspec
from standardwebhooks import Webhook

from agent.memory import Memory, MemoryUnavailable
from agent.metrics import Metrics
from agent.outbox import MAX_WAIT_S, Due, Outbox
from agent.rules import Target
from mlops.contracts.release import ReleaseEvent

log = logging.getLogger(__name__)

TIMEOUT = aiohttp.ClientTimeout(total=10)

MAX_ATTEMPTS = 12
"""With the waits below: about 25 minutes. Past it a notice is given up and counted."""

BATCH = 16
"""Notices under way at a time."""

LOOK_EVERY_S = 1.0


class Notifier:
    """Delivers what is due while this agent leads."""

    def __init__(
        self,
        memory: Memory,
        targets: Sequence[Target],
        *,
        leads: Callable[[], bool],
        unix_s: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._outbox = Outbox(memory)
        self._targets = {target.name: target for target in targets}
        self._leads = leads
        self._unix_s = unix_s
        self._metrics = metrics

    async def run(self) -> None:
        """Until cancelled; does nothing where nobody is to be told."""
        if not self._targets:
            return
        async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
            while True:
                delivered = await self._round(session)
                if not delivered:
                    await asyncio.sleep(LOOK_EVERY_S)

    async def _round(self, session: aiohttp.ClientSession) -> bool:
        """Deliver a batch; True if there was one."""
        if not self._leads():
            return False
        try:
            due = await self._outbox.due(self._unix_s(), BATCH)
            await asyncio.gather(*(self._tell(session, one) for one in due))
            self._metrics.notices_waiting.set(await self._outbox.untold())
        except MemoryUnavailable as error:
            log.warning("notices: %s", error)
            return False
        except Exception:
            log.exception("BUG: notices were not delivered; please report this")
            return False
        return bool(due)

    async def _tell(self, session: aiohttp.ClientSession, due: Due) -> None:
        target, event = self._targets[due.target], due.event
        if not target.wants(event.kind):
            await self._outbox.told(target.name, event.sequence)
            return
        problem = await self._post(session, target, event)
        if not problem:
            await self._settle(due, "delivered")
        elif due.attempts + 1 >= MAX_ATTEMPTS:
            log.error("notice %d to %s is given up: %s", event.sequence, target.name, problem)
            await self._settle(due, "given_up")
        else:
            log.warning("notice %d to %s: %s", event.sequence, target.name, problem)
            self._metrics.notices.labels(target.name, "failed").inc()
            again_s = self._unix_s() + wait_s(due.attempts)
            await self._outbox.tell_later(target.name, event.sequence, again_s)

    async def _settle(self, due: Due, result: str) -> None:
        await self._outbox.told(due.target, due.event.sequence)
        self._metrics.notices.labels(due.target, result).inc()

    async def _post(
        self, session: aiohttp.ClientSession, target: Target, event: ReleaseEvent
    ) -> str:
        """Returns what went wrong, without the address: it may be a secret."""
        body = slack_body(event) if target.is_slack else webhook_body(event)
        moment = datetime.fromtimestamp(self._unix_s(), UTC)
        headers = {"Content-Type": "application/json"} | signed(target, event, body, moment)
        try:
            async with session.post(
                target.url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                if 200 <= answer.status < 300:
                    return ""
                return f"answered {answer.status}"
        except TimeoutError:
            return f"no answer within {TIMEOUT.total:g} s"
        except (aiohttp.ClientError, OSError) as error:
            return f"did not answer: {type(error).__name__}"


def wait_s(attempts: int) -> float:
    """After that many failed attempts before this one: 2, 4, 8 ... seconds."""
    return min(MAX_WAIT_S, 2.0 ** (attempts + 1))


def signed(target: Target, event: ReleaseEvent, body: bytes, moment: datetime) -> dict[str, str]:
    """Standard Webhooks' headers; the id is the same at every attempt, so that it can be told."""
    if target.is_slack:
        return {}
    name = f"{event.release_id or event.route}.{event.sequence}"
    headers = {"webhook-id": name, "webhook-timestamp": str(int(moment.timestamp()))}
    if target.secret:
        signature = Webhook(target.secret).sign(name, moment, body.decode())
        headers["webhook-signature"] = signature
    return headers


def webhook_body(event: ReleaseEvent) -> bytes:
    """Standard Webhooks' shape: type, timestamp, data."""
    data = {
        "release_id": event.release_id,
        "sequence": event.sequence,
        "route": event.route,
        "actor": event.actor,
        "from_weight": event.from_share_bp / 100,
        "to_weight": event.to_share_bp / 100,
        "reason": event.reason,
        "detail": event.detail,
    }
    return msgspec.json.encode({"type": event.kind, "timestamp": event.at, "data": data})


def slack_body(event: ReleaseEvent) -> bytes:
    """One line of text, as Slack and those that are compatible with it take it."""
    what = event.kind.removeprefix("release.").replace("_", " ")
    version = event.detail.get("version", "")
    weight = f"{event.from_share_bp / 100:g} % -> {event.to_share_bp / 100:g} %"
    if not event.release_id:  # of the route's queries, not of a release
        line = f"*{event.route}*: {what.replace('.', ' ')} by {event.actor}: {event.reason}"
        return msgspec.json.encode({"text": _escaped(line)})
    line = f"*{event.route}* {version}: {what} by {event.actor}, {weight}: {event.reason}"
    return msgspec.json.encode({"text": f"{_escaped(line)} (`{event.release_id}`)"})


def _escaped(text: str) -> str:
    """A reason may be anything; Slack gives these three characters a meaning."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
