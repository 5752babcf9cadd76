"""`GET /v1/releases/{id}/replay`: a release judged again from the log, also by another policy.

It is work for the agent's only thread, which has releases to watch: one replay at a time, resting
as long as it works, and ended after `MAX_WORK_S` with what it has. The command line reads on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final

import msgspec
from aiohttp import web

from agent.console.explained import Line, explained
from agent.console.history import EvidenceHistory, EvidencePoint
from agent.policy import Policy
from agent.policy_file import parse_policy, read_policy, to_document
from agent.rehearsal import Moment
from agent.releases import NotFound, NotNow, Releases
from agent.replay import NothingToReplay, Replay, ReplayLog, Span
from agent.shipped_policies import shipped
from agent.status import checks_of
from agent.watch import part_of_alpha
from mlops.contracts.release import CheckStatus, ReleaseStatus
from mlops.feature_store.errors import Refused, Unavailable
from mlops.service.http import GRANT, check_route, json_answer

MAX_WORK_S: Final = 10.0
"""Of judging and reading: about half a day of a busy route."""
MAX_WAIT_S: Final = 30.0
"""With the rests, and a read that hangs."""
SLICE_S: Final = 0.01
"""Worked at a stretch; then the others have their turn for as long."""
MAX_REST_S: Final = 0.05
"""What was only waited for need not be rested from."""
MAX_POLICY_CHARS: Final = 4_000
"""It comes in the address."""
MAX_ADDRESS_BYTES: Final = 12 * MAX_POLICY_CHARS + 1_024
"""Taken by the agent's server: such a policy where each character is four bytes, each of them
escaped, and the rest of the line."""
MAX_MOMENTS: Final = 300
"""Of one replay; those of a verdict that goes to and fro are counted from there on."""


class ReplayMoment(msgspec.Struct, frozen=True, kw_only=True):
    """Something that would have changed: the verdict, or what is done."""

    at: float
    """Unix time, seconds."""
    action: str
    """As the events of a release: step, promoted, settled, rolled_back; empty: the verdict only."""
    verdict: str
    weight: float
    """Percent that it would have asked for."""
    logged: float
    """Percent that was asked for then."""
    reasons: tuple[str, ...]


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/releases/{id}/replay`."""

    result: str
    """promoted, rolled_back, undecided, invalid."""
    at: float
    """When, Unix time; where it is neither, how far was read."""
    reason: str
    canary_requests: int
    read_through: int
    """The last second that was judged."""
    is_whole: bool
    """False: the time for it was over before the log was."""
    policy: dict[str, Any]
    """That it was judged by."""
    lines: tuple[Line, ...]
    """The same in words."""
    rolled_back_at: float
    proved_at: float
    checks: dict[str, CheckStatus]
    """As they stood at the end."""
    moments: tuple[ReplayMoment, ...]
    left_out: int
    """Moments beyond the first `MAX_MOMENTS`."""
    points: tuple[EvidencePoint, ...]


class Replays:
    """The handler; everything it uses is handed in."""

    def __init__(
        self,
        releases: Releases,
        log: ReplayLog,
        *,
        unix_s: Callable[[], float],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._releases = releases
        self._log = log
        self._unix_s = unix_s
        self._monotonic_s = monotonic_s
        self._is_busy = False

    def routes(self) -> list[web.RouteDef]:
        """The handler, for the agent's application."""
        return [web.get("/v1/releases/{id}/replay", self._get_replay)]

    async def _get_replay(self, request: web.Request) -> web.Response:
        release = await self._releases.show(request.match_info["id"])
        check_route(request[GRANT], release.route)
        policy = policy_of(release, request.query.get("strategy", ""), request.query.get("policy"))
        if self._is_busy:
            raise NotNow("another release is being replayed; one at a time")
        self._is_busy = True
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                found = await self._replayed(request, release, policy)
        except TimeoutError:
            raise NotNow(f"the log was not read within {MAX_WAIT_S:g} s") from None
        except (Unavailable, Refused) as error:
            raise NotNow(str(error)) from error
        except NothingToReplay as error:
            raise NotFound(str(error)) from error
        finally:
            self._is_busy = False
        return json_answer(found)

    async def _replayed(
        self, request: web.Request, release: ReleaseStatus, policy: Policy
    ) -> Replayed:
        span = Span.of(release, self._unix_s())
        replay = await Replay.of(self._log, span, policy)
        drawn = Drawn()
        worked_s, began_s = 0.0, self._monotonic_s()
        is_whole = True
        async with aclosing(replay.run()) as run:
            async for moments in run:
                drawn.note(replay, moments)
                busy_s = self._monotonic_s() - began_s
                if busy_s < SLICE_S:
                    continue
                worked_s += busy_s
                is_waited_for = request.transport is not None
                if worked_s > MAX_WORK_S or not is_waited_for:
                    is_whole = False
                    break
                await asyncio.sleep(min(busy_s, MAX_REST_S))
                began_s = self._monotonic_s()
        return drawn.answer(replay, policy, is_whole=is_whole)


def policy_of(release: ReleaseStatus, strategy: str, text: str | None) -> Policy:
    """The policy to judge by: one that is given, a shipped one, or else the release's own.

    Raises:
        ValueError: it is not understood, or two are given.
    """
    if strategy and text:
        raise ValueError("policy and strategy: expected one of the two")
    if strategy:
        return shipped(strategy)
    if not text:
        return parse_policy(release.policy, source=f"policy of release {release.id}")
    if len(text) > MAX_POLICY_CHARS:
        raise ValueError(
            f"policy: {len(text):,} characters, at most {MAX_POLICY_CHARS:,} are taken here; "
            f"`rag-mlops release replay {release.id} --policy FILE` takes more"
        )
    return read_policy(text.encode(), source="policy")


class Drawn:
    """What is kept of a replay while it runs, all of it bounded."""

    def __init__(self) -> None:
        self._history = EvidenceHistory()
        self._moments: list[ReplayMoment] = []
        self._left_out = 0

    def note(self, replay: Replay, moments: tuple[Moment, ...]) -> None:
        """One second of the log, and what changed in it."""
        if replay.judgement is not None:
            at_s = float(replay.read_through + 1)
            self._history.note("", replay.share_bp / 100, replay.judgement, at_s)
        for one in moments:
            if len(self._moments) < MAX_MOMENTS:
                self._moments.append(_moment(one))
            else:
                self._left_out += 1

    def answer(self, replay: Replay, policy: Policy, *, is_whole: bool) -> Replayed:
        """Where the replay stands; `is_whole`: the log was read to its end."""
        ending, judgement = replay.ending(), replay.judgement
        return Replayed(
            result=ending.result,
            at=ending.at_s,
            reason=ending.reason,
            canary_requests=ending.canary_requests,
            read_through=replay.read_through,
            is_whole=is_whole,
            policy=to_document(policy),
            lines=tuple(explained(policy)),
            rolled_back_at=1 / part_of_alpha(policy, "steps"),
            proved_at=1 / policy.beta,
            checks=checks_of(judgement),
            moments=tuple(self._moments),
            left_out=self._left_out,
            points=tuple(self._history.of("")),
        )


def _moment(one: Moment) -> ReplayMoment:
    return ReplayMoment(
        at=one.at_s,
        action=one.action,
        verdict=one.judgement.verdict.value,
        weight=one.to_share_bp / 100,
        logged=one.share_bp / 100,
        reasons=one.reasons,
    )
