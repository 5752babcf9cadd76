"""The agent's API: HTTP in front of `Releases`. Every refusal is a `Problem` saying what came."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from agent.console.door import Door
from agent.evaluations import Evaluations
from agent.journal import Journal
from agent.loop import Loop
from agent.memory import Memory, MemoryUnavailable, Outdated
from agent.metrics import Metrics
from agent.openapi import document
from agent.release import Verb
from agent.releases import NotFound, NotNow, Releases
from agent.verbs import Conflict
from mlops.contracts.release import (
    EvaluationRequest,
    EvaluationsTaken,
    ReleaseEvent,
    ReleaseRequest,
    ReleaseStatus,
    VerbRequest,
)
from mlops.feature_store.entries import Evaluation
from mlops.service.aio import tasks_of
from mlops.service.http import (
    GRANT,
    actor_of,
    auditing,
    authorizing,
    check_every_route,
    check_route,
    decode,
    json_answer,
    read_body,
    refusing,
)
from mlops.service.tokens import Tokens

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 2 * 1024 * 1024
"""Ten thousand scores."""
HEARTBEAT_S = 15.0
"""So that a proxy does not close an idle stream of events, and a dead client is noticed."""
SEND_TIMEOUT_S = 10.0
"""A listener that takes nothing for this long is cut off."""
STALL_LIMIT_S = 30.0
"""Without a cycle for this long we are not ready."""
MAX_MISSED = 10_000
"""Events that one listener is brought up to date with: months of releases."""
MAX_ID_DIGITS = 18
"""What a database takes for a number."""
PUBLIC_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/openapi.json"})


_PROBLEM_OF: dict[type[Exception], tuple[int, str]] = {
    Conflict: (409, "conflict"),
    NotFound: (404, "not_found"),
    NotNow: (503, "unavailable"),
    MemoryUnavailable: (503, "unavailable"),
    Outdated: (503, "unavailable"),
}


class Api:
    """Handlers; everything they use is handed in."""

    def __init__(
        self,
        releases: Releases,
        evaluations: Evaluations,
        journal: Journal,
        memory: Memory,
        loop: Loop,
        *,
        metrics: Metrics,
        tokens: Tokens,
    ) -> None:
        self._releases = releases
        self._evaluations = evaluations
        self._journal = journal
        self._memory = memory
        self._loop = loop
        self._metrics = metrics
        self._tokens = tokens
        self._openapi = msgspec.json.encode(document())

    def application(
        self, more: Iterable[web.RouteDef] = (), door: Door | None = None
    ) -> web.Application:
        """`more` are handlers of other modules, behind the same door. `door` lets browsers in."""
        more = [*more, *(door.routes() if door is not None else ())]
        public = PUBLIC_PATHS | (door.public if door is not None else frozenset())
        app = web.Application(
            middlewares=[
                auditing,
                refusing(_PROBLEM_OF, max_body_bytes=MAX_BODY_BYTES),
                authorizing(
                    self._tokens,
                    public=public,
                    realm="agent",
                    failures=door.failures if door is not None else None,
                    sessions=door.sessions if door is not None else None,
                ),
            ],
            client_max_size=MAX_BODY_BYTES,
        )
        app.add_routes(
            [
                web.get("/livez", self._get_livez),
                web.get("/readyz", self._get_readyz),
                web.get("/healthz", self._get_readyz),
                web.get("/metrics", self._get_metrics),
                web.get("/openapi.json", self._get_openapi),
                web.get("/v1/releases", self._get_releases),
                web.post("/v1/releases", self._post_release),
                web.get("/v1/releases/{id}", self._get_release),
                web.get("/v1/releases/{id}/events", self._get_history),
                web.post(f"/v1/releases/{{id}}/{{verb:{'|'.join(Verb)}}}", self._post_verb),
                web.post("/v1/evaluations", self._post_evaluations),
                web.get("/v1/events", self._get_events),
                *more,
            ]
        )
        return app

    # ---- health --------------------------------------------------------------------------------

    async def _get_livez(self, _: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _get_readyz(self, _: web.Request) -> web.Response:
        idle_s = self._loop.idle_s()
        if idle_s is None or idle_s > STALL_LIMIT_S:
            return web.Response(status=503, text="no cycle was completed lately\n")
        return web.Response(text="leads\n" if self._loop.leads else "stands by\n")

    async def _get_metrics(self, _: web.Request) -> web.Response:
        self._metrics.tasks.set(tasks_of(asyncio.get_running_loop()))
        return web.Response(
            body=self._metrics.render(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _get_openapi(self, _: web.Request) -> web.Response:
        return web.Response(body=self._openapi, content_type="application/json")

    # ---- releases ------------------------------------------------------------------------------

    async def _get_releases(self, request: web.Request) -> web.Response:
        grant = request[GRANT]
        found = await self._releases.recent()
        return json_answer([one for one in found if grant.may_touch(one.route)])

    async def _post_release(self, request: web.Request) -> web.Response:
        wanted = decode(await read_body(request), ReleaseRequest)
        check_route(request[GRANT], wanted.route)
        return json_answer(await self._releases.start(wanted, actor_of(request)), status=201)

    async def _get_release(self, request: web.Request) -> web.Response:
        return json_answer(await self._shown(request))

    async def _shown(self, request: web.Request) -> ReleaseStatus:
        """The release of the path, if the caller may see it."""
        found = await self._releases.show(request.match_info["id"])
        check_route(request[GRANT], found.route)
        return found

    async def _get_history(self, request: web.Request) -> web.Response:
        await self._shown(request)
        return json_answer(await self._releases.history(request.match_info["id"]))

    async def _post_verb(self, request: web.Request) -> web.Response:
        verb = Verb(request.match_info["verb"])
        await self._shown(request)
        body = await read_body(request)
        wanted = decode(body, VerbRequest) if body else VerbRequest()
        status = await self._releases.command(
            request.match_info["id"], verb, actor_of(request), wanted.reason
        )
        return json_answer(status, status=201 if verb is Verb.RETRY else 202)

    # ---- scores and events ---------------------------------------------------------------------

    async def _post_evaluations(self, request: web.Request) -> web.Response:
        check_every_route(request[GRANT])  # a score names a request, whose route is not known here
        body = await read_body(request)
        is_list = body.lstrip()[:1] == b"["
        given = (
            decode(body, list[EvaluationRequest]) if is_list else [decode(body, EvaluationRequest)]
        )
        received_at = datetime.now(UTC)
        taken = self._evaluations.offer(
            [
                Evaluation(
                    request_id=one.request_id,
                    name=one.name,
                    score=one.score,
                    received_at=received_at,
                )
                for one in given
            ]
        )
        if not taken:
            raise NotNow("too many scores wait for ClickHouse; none of these was taken")
        return json_answer(EvaluationsTaken(accepted=len(given)), status=202)

    async def _get_events(self, request: web.Request) -> web.StreamResponse:
        """From now on, or from the one after `Last-Event-ID`."""
        check_every_route(request[GRANT])
        after = _last_event_id(request.headers.get("Last-Event-ID", ""))
        listener = self._journal.listen()
        if listener is None:
            raise NotNow("too many listen already")
        answer = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        try:
            await answer.prepare(request)
            sent = -1 if after is None else await self._send_missed(answer, after)
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        live = await listener.get()
                except TimeoutError:
                    await _send(answer, b":\n\n")
                    continue
                if live is None:
                    break
                if live.sequence > sent:
                    await _send(answer, _sse(live))
        except (ConnectionError, TimeoutError):
            log.debug("a listener went away")
        except MemoryUnavailable as error:
            log.warning("a listener's missed events could not be read: %s", error)
        finally:
            self._journal.leave(listener)
        return answer

    async def _send_missed(self, answer: web.StreamResponse, after: int) -> int:
        """All events after that one, page by page; returns the last one sent, -1 if there is none.

        Past `MAX_MISSED` the oldest are left out, and an event `gap` says how many.

        What happens meanwhile is in the listener's queue too. Where that overflows the stream ends
        after it, and the client comes back with the last id it has: late, but without a gap.
        """
        sent = -1
        first = await self._memory.last_sequence() - MAX_MISSED
        if after < first:
            await _send(answer, b'event: gap\ndata: {"left_out":%d}\n\n' % (first - after))
            after = first
        while page := await self._memory.events(after=max(after, sent)):
            for event in page:
                await _send(answer, _sse(event))
                sent = event.sequence
        return sent


def _last_event_id(given: str) -> int | None:
    """None: from now on."""
    if not given:
        return None
    if not given.isascii() or not given.isdigit() or len(given) > MAX_ID_DIGITS:
        raise ValueError(
            f"Last-Event-ID: expected the number of an event, got {given[:MAX_ID_DIGITS]!r}"
        )
    return int(given)


async def _send(answer: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await answer.write(data)


def _sse(event: ReleaseEvent) -> bytes:
    body = msgspec.json.encode(event)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.sequence, event.kind.encode(), body)
