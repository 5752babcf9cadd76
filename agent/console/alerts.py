"""`GET /v1/alerts`: what fires now, by Prometheus where one is configured, else by the agent.

Prometheus is asked for its rules rather than its alerts: only so can it be told that it has none of
ours, or cannot evaluate them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

import aiohttp
import msgspec
from aiohttp import web

from agent.console.api import Looking
from agent.drift_watcher import DriftWatcher
from agent.judge import Verdict
from agent.moments import unix_s
from agent.publisher import View
from agent.release import Cycle, Phase
from agent.releases import Releases
from agent.settings import AlertSettings
from agent.standing import age, is_fresh
from mlops.contracts.drift import DriftStatus
from mlops.contracts.release import ReleaseStatus
from mlops.service.http import GRANT, json_answer
from mlops.service.tls import Trust

ASK_EVERY_S: Final = 10.0
"""However many look; rules are evaluated as often, as shipped."""
TIMEOUT_S: Final = 3.0
MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
"""Twenty rules with a hundred alerts each are a tenth of it."""
MAX_ALERTS: Final = 100
"""Shown; firing ones first, the rest is counted."""
MAX_CHARS: Final = 1_000
"""Of one annotation."""
OLD_S: Final = 120.0
"""What Prometheus said longer ago is no answer; then the agent says what it sees."""
TOLD_S: Final = 3_600.0
"""How long a rollback is an alert."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person should know of."""

    name: str
    severity: str
    state: str
    """`firing`, or `pending`: true, but not yet for as long as the rule wants."""
    since: str | None
    """ISO 8601; None where only the present is known."""
    summary: str
    description: str = ""
    runbook: str = ""
    route: str = ""
    """Empty: of no one route."""


class Alerts(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /v1/alerts`."""

    source: str
    """`prometheus`, or `agent`: what this agent sees by itself."""
    age_s: float
    """Since Prometheus said so; 0 for the agent's own."""
    problem: str
    """Why these are not Prometheus' own, or not all of them; empty if all is well."""
    alerts: tuple[Alert, ...]
    left_out: int


class _PrometheusAlert(msgspec.Struct):
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    state: str = "firing"
    activeAt: str | None = None


class _Rule(msgspec.Struct):
    name: str
    type: str = "alerting"
    health: str = "ok"
    alerts: list[_PrometheusAlert] = []


class _Group(msgspec.Struct):
    name: str
    rules: list[_Rule]


class _Data(msgspec.Struct):
    groups: list[_Group]


class _Answer(msgspec.Struct):
    data: _Data


# ---- what the agent sees by itself ---------------------------------------------------------------


def own_alerts(
    view: View | None,
    releases: Sequence[ReleaseStatus],
    cycles: Mapping[str, Cycle],
    drift: Mapping[str, DriftStatus],
    now_s: float,
) -> Iterator[Alert]:
    """Named as the rules of `prometheus/rules/alerts.yml` name the same. Pure."""
    for sight in view.silent if view is not None else ():
        yield _own("GatewayDown", "critical", f"Gateway {sight.gateway} does not answer")
    for route, sights in sorted(view.routes.items()) if view is not None else ():
        lapsed = [one.gateway for one in sights if one.plan and one.lease_remaining_s == 0]
        if lapsed:
            said = f"The lease of {route} ended on {', '.join(lapsed)}: everything goes to stable"
            yield _own("LeaseEnded", "critical", said, route)
    for release in releases:
        if release.ended_at is None:
            yield from _of_running(release, cycles.get(release.id))
        elif release.phase == Phase.ROLLED_BACK.value and now_s - unix_s(release.ended_at) < TOLD_S:
            said = f"{release.version} on {release.route}: {'; '.join(release.reasons)}"
            yield _own("ReleaseRolledBack", "critical", said, release.route, release.ended_at)
    for route, status in sorted(drift.items()):
        if status.detected:
            what = ", ".join(sorted(status.detected)).replace("_", " ")
            since = min(status.detected.values())
            said = f"Queries to {route} have changed: {what}"
            yield _own("QueryDrift", "warning", said, route, since)


def _of_running(release: ReleaseStatus, cycle: Cycle | None) -> Iterator[Alert]:
    route = release.route
    if cycle is None:
        return
    if not is_fresh(cycle.picture):
        said = f"The release on {route}: {age(cycle.picture)}"
        yield _own("AgentWithoutEvidence", "warning", said, route)
    elif release.verdict == Verdict.INVALID.value:
        why = "; ".join(release.reasons)
        said = f"The evidence of the release on {route} cannot be trusted: {why}"
        yield _own("EvidenceInvalid", "warning", said, route)


def _own(
    name: str, severity: str, summary: str, route: str = "", since: str | None = None
) -> Alert:
    return Alert(
        name=name, severity=severity, state="firing", since=since, summary=summary, route=route
    )


# ---- what Prometheus says ------------------------------------------------------------------------


def alerts_of(content: bytes, groups: Collection[str]) -> tuple[list[Alert], str]:
    """Those of our groups, and what is wrong with the rules themselves. Pure.

    Raises:
        ValueError: it is not an answer of Prometheus.
    """
    answer = msgspec.json.decode(content, type=_Answer)
    rules = [rule for group in answer.data.groups if group.name in groups for rule in group.rules]
    found = [_alert(rule, one) for rule in rules for one in rule.alerts]
    if not any(rule.type == "alerting" for rule in rules):
        return found, f"Prometheus has no rules of {', '.join(sorted(groups))}"
    broken = sorted({rule.name for rule in rules if rule.health == "err"})
    return found, f"Prometheus cannot evaluate {', '.join(broken)}" if broken else ""


def _alert(rule: _Rule, one: _PrometheusAlert) -> Alert:
    said = one.annotations
    return Alert(
        name=rule.name,
        severity=one.labels.get("severity", ""),
        state=one.state,
        since=one.activeAt,
        summary=said.get("summary", rule.name)[:MAX_CHARS],
        description=said.get("description", "")[:MAX_CHARS],
        runbook=said.get("runbook_url", "")[:MAX_CHARS],
        route=one.labels.get("route", ""),
    )


class PrometheusAlerts:
    """Asked at most every `ASK_EVERY_S`, by one request however many wait for it."""

    def __init__(self, settings: AlertSettings, monotonic_s: Callable[[], float]) -> None:
        self._settings = settings
        self._monotonic_s = monotonic_s
        self._trust = Trust(settings.tls)
        self._asking = asyncio.Lock()
        self._asked_s: float | None = None
        self._answered_s: float | None = None
        self._alerts: list[Alert] = []
        self._problem = ""

    async def look(self) -> tuple[list[Alert] | None, float, str]:
        """What it said last (None: nothing yet), how old that is in seconds, and what is wrong."""
        async with self._asking:
            if self._asked_s is None or self._monotonic_s() - self._asked_s >= ASK_EVERY_S:
                await self._ask()
                self._asked_s = self._monotonic_s()
        if self._answered_s is None:
            return None, 0.0, self._problem
        return self._alerts, self._monotonic_s() - self._answered_s, self._problem

    async def _ask(self) -> None:
        address = self._settings.prometheus
        try:
            async with asyncio.timeout(TIMEOUT_S):
                content = await self._read(f"{address}/api/v1/rules")
            self._alerts, self._problem = alerts_of(content, self._settings.groups)
            self._answered_s = self._monotonic_s()
        except TimeoutError:
            self._problem = f"Prometheus did not answer within {TIMEOUT_S:g} s"
        except (aiohttp.ClientError, OSError) as error:
            self._problem = f"Prometheus did not answer: {type(error).__name__}"
        except ValueError as error:
            self._problem = f"{address} did not answer as Prometheus does: {error}"

    async def _read(self, url: str) -> bytes:
        token = self._settings.token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connector = aiohttp.TCPConnector(ssl=self._trust.context())
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers) as session,
            session.get(
                url,
                params={"type": "alert"},
                allow_redirects=False,
                server_hostname=self._trust.server_name,
            ) as answer,
        ):
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            content = await answer.content.read(MAX_ANSWER_BYTES + 1)
            while not answer.content.at_eof() and len(content) <= MAX_ANSWER_BYTES:
                content += await answer.content.read(MAX_ANSWER_BYTES + 1 - len(content))
            if len(content) > MAX_ANSWER_BYTES:
                raise ValueError(f"more than {MAX_ANSWER_BYTES:,} bytes")
            return content


# ---- the handler ---------------------------------------------------------------------------------


class AlertsApi:
    """Everything it uses is handed in; `prometheus` is None where none is configured."""

    def __init__(
        self,
        loop: Looking,
        releases: Releases,
        drift: DriftWatcher,
        prometheus: PrometheusAlerts | None,
        *,
        unix_s: Callable[[], float],
    ) -> None:
        self._loop = loop
        self._releases = releases
        self._drift = drift
        self._prometheus = prometheus
        self._unix_s = unix_s

    def routes(self) -> list[web.RouteDef]:
        """The handler, for the agent's application."""
        return [web.get("/v1/alerts", self._get_alerts)]

    async def _get_alerts(self, request: web.Request) -> web.Response:
        grant = request[GRANT]
        asked = self._prometheus
        said, age_s, problem = await asked.look() if asked is not None else (None, 0.0, "")
        alerts = said if said is not None and age_s < OLD_S else await self._own()
        is_own = alerts is not said
        seen = [one for one in alerts if not one.route or grant.may_touch(one.route)]
        seen.sort(key=lambda one: (one.state != "firing", one.severity != "critical", one.name))
        return json_answer(
            Alerts(
                source="agent" if is_own else "prometheus",
                age_s=0.0 if is_own else round(age_s, 1),
                problem=problem,
                alerts=tuple(seen[:MAX_ALERTS]),
                left_out=max(0, len(seen) - MAX_ALERTS),
            )
        )

    async def _own(self) -> list[Alert]:
        return list(
            own_alerts(
                self._loop.view,
                await self._releases.recent(),
                self._loop.cycles,
                await self._drift.statuses(),
                self._unix_s(),
            )
        )
