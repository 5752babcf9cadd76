"""Tell others what no release tells: that somebody took a version back, or what monitoring found.
As Standard Webhooks says (`webhook-id`, `webhook-timestamp`, with a secret `webhook-signature`).

A rollback's is sent after the gateways have answered, so it never delays them; the agent, which
tells of its own transitions, may be away at such an hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from random import uniform
from typing import Any, Final
from uuid import uuid4

import aiohttp
import msgspec
from standardwebhooks import Webhook

from mlops.config import NoticeSettings

KIND: Final = "rollback.by_hand"
"""`type` of the notice, beside the agent's `release.*`."""

ATTEMPTS: Final = 3
PAUSE_S: Final = 0.5
"""Between two of them, half as much more or less: many who tell at once come apart."""
TIMEOUT_S: Final = 5.0
"""For all attempts together: who rolls back at night waits for this at the end."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, by whom and why."""

    target: str
    """The model, or the route where one was named."""
    routes: dict[str, str]
    """Route to the version that serves it now."""
    actor: str
    reason: str
    confirmed: tuple[str, ...]
    unconfirmed: tuple[str, ...]
    """Gateways that may still send requests to the version."""


async def tell(settings: NoticeSettings, notice: Notice) -> str:
    """Send it where the settings say; what went wrong, empty if it was taken, or nobody is to be
    told. Never the address: it may be a secret."""
    return await send(settings, KIND, f"rollback.{uuid4().hex}", notice)


async def send(settings: NoticeSettings, kind: str, identity: str, data: msgspec.Struct) -> str:
    """Send `data` as a notice of this kind. Who gets the same `identity` twice may drop one."""
    if not settings.url:
        return ""
    now = datetime.now(UTC)
    body = msgspec.json.encode({"type": kind, "timestamp": now, "data": msgspec.to_builtins(data)})
    headers = signed(settings.secret, identity, now, body)
    problem = "no attempt was made"
    try:
        async with asyncio.timeout(TIMEOUT_S), aiohttp.ClientSession() as session:
            for attempt in range(ATTEMPTS):
                if attempt:
                    await asyncio.sleep(PAUSE_S * uniform(0.5, 1.5))  # noqa: S311  no secret
                if not (problem := await _post(session, settings.url, body, headers)):
                    return ""
    except TimeoutError:
        problem = f"no answer within {TIMEOUT_S:g} s"
    return f"the notice was not taken: {problem}"


def signed(secret: str, identity: str, moment: datetime, body: bytes) -> Mapping[str, str]:
    """The headers of one notice; the same at every attempt, so that it can be told apart."""
    headers = {
        "Content-Type": "application/json",
        "webhook-id": identity,
        "webhook-timestamp": str(int(moment.timestamp())),
    }
    if secret:
        headers["webhook-signature"] = Webhook(secret).sign(identity, moment, body.decode())
    return headers


async def _post(
    session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str]
) -> str:
    options: dict[str, Any] = {"data": body, "headers": headers, "allow_redirects": False}
    try:
        async with session.post(url, **options) as answer:
            return "" if 200 <= answer.status < 300 else f"it answered {answer.status}"
    except (aiohttp.ClientError, OSError) as error:
        return f"it did not answer ({type(error).__name__})"
