"""The steps of the monitoring pipeline: each reads what it needs and calls the library."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from dags.data_drift import route_drift
from dags.step_results import BadRequest, Refused, request_of
from mlops.config import MlopsConfig
from mlops.deployment.notices import send
from mlops.feature_store import ClickHouseFeatureStore
from mlops.monitoring.alert_notice import KIND, alert_notice
from mlops.monitoring.anomalies import anomalies
from mlops.monitoring.decision import NotAsked
from mlops.monitoring.decision import decide as decide_on
from mlops.monitoring.figures import HOUR_S, Collected
from mlops.monitoring.findings import Finding, Look, Severity, in_order
from mlops.monitoring.hour_partition import HourPartition, LookMissing
from mlops.monitoring.quality import quality as quality_of
from mlops.monitoring.reading import HourLog

LOOKS = ("anomalies", "drift", "quality")
SENT = "sent"
"""The file that says which notice of the hour was taken."""

log = logging.getLogger(__name__)


class NotTold(RuntimeError):
    """The webhook did not take the notice; worth a retry."""


class MonitoringRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of one run, so of one hour."""

    hour: datetime
    baseline_hours: int = 168
    retraining_window_hours: int = 24
    is_backfill: bool = False
    """The hour is looked at long after: nobody is told, and nothing is trained for it."""
    retraining: dict[str, Any] = {}
    """Parameters of the run that may be asked for."""

    def __post_init__(self) -> None:
        if self.baseline_hours < 1 or self.retraining_window_hours < 1:
            raise ValueError("baseline_hours and retraining_window_hours must be positive")

    @property
    def first_second(self) -> int:
        """Of the hour (Unix time)."""
        return int(self.hour.timestamp())


def collect(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """Figures of the hour and of the hours before it, into the partition."""
    request, partition = _asked(config, content)

    async def read() -> Collected:
        async with await HourLog.open(config.clickhouse) as hour_log:
            return await hour_log.collect(request.first_second, request.baseline_hours)

    found = asyncio.run(read())
    partition.write("collected", found)
    return {"partition": partition.name, "sentence": found.sentence}


def look_for_anomalies(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """The hour's figures against those before."""
    _, partition = _asked(config, content)
    return _looked(partition, "anomalies", anomalies(partition.read("collected", Collected)))


def look_for_drift(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """The hour's queries against those before, route by route."""
    request, partition = _asked(config, content)
    known = partition.read("collected", Collected)
    routes = sorted({one.route for one in known.hours if one.hour == known.hour})

    async def read() -> Look:
        findings: list[Finding] = []
        unknown: list[str] = []
        async with await HourLog.open(config.clickhouse) as hour_log:
            for route in routes:
                span_end = request.first_second + HOUR_S
                versions = await hour_log.versions(route, known.since, span_end)
                found, silent = await route_drift(
                    hour_log.log,
                    route,
                    since=known.since,
                    hour=request.first_second,
                    versions=versions,
                )
                findings += found
                unknown += silent
        return Look.of(findings, unknown)

    return _looked(partition, "drift", asyncio.run(read()))


def look_at_quality(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """Whether the log is whole, and its rows have their features."""
    request, partition = _asked(config, content)
    known = partition.read("collected", Collected)

    async def read() -> Look:
        async with await HourLog.open(config.clickhouse) as hour_log:
            completeness = await hour_log.completeness(request.first_second)
            dead = await hour_log.dead_letters(request.first_second)
            return quality_of(known, completeness, dead)

    return _looked(partition, "quality", asyncio.run(read()))


def alerts(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """All findings in one list, the most urgent first, in the partition and in the log."""
    _, partition = _asked(config, content)
    findings = in_order([one for look in LOOKS for one in partition.read(look, Look).findings])
    partition.write("alerts", findings)
    for one in findings:
        level = logging.ERROR if one.severity is Severity.CRITICAL else logging.WARNING
        log.log(level, "%s: %s", one.severity, one.sentence)
    critical = sum(one.severity is Severity.CRITICAL for one in findings)
    return {
        "findings": len(findings),
        "critical": critical,
        "sentence": f"{len(findings)} findings, {critical} of them critical",
    }


def send_alerts(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """The findings to the webhook, once; refuses where there is nothing or nobody to tell."""
    request, partition = _asked(config, content)
    findings = partition.read("alerts", list[Finding])
    if not findings:
        raise Refused("no findings: nothing to tell")
    if request.is_backfill:
        raise Refused("the hour was filled in later: nobody is told of old hours")
    if not config.notices.url:
        raise Refused("MLOPS_NOTICE_URL is not set: nobody is told")
    notice = alert_notice(partition.name, findings)
    told = {"sentence": f"{notice.count} findings told as {notice.identity}"}
    if _sent_before(partition) == notice.identity:
        return told
    if problem := asyncio.run(send(config.notices, KIND, notice.identity, notice)):
        raise NotTold(problem)
    partition.write(SENT, notice.identity)
    return told


def _sent_before(partition: HourPartition) -> str:
    try:
        return partition.read(SENT, str)
    except LookMissing:
        return ""


def refresh(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """Keep the hour in the table that outlives the rows. Completeness is a view and needs none."""
    request, _ = _asked(config, content)
    until = request.hour + timedelta(hours=1)
    with ClickHouseFeatureStore(config.clickhouse) as store:
        store.refresh_model_performance(request.hour, until)
    return {"sentence": f"performance of {request.hour:%Y-%m-%d %H:%M} .. {until:%H:%M} kept"}


def decide(config: MlopsConfig, content: bytes) -> Mapping[str, Any]:
    """Whether to ask for a retraining; refuses, and says why, where there is no reason."""
    request, partition = _asked(config, content)
    decision = decide_on(
        request.first_second,
        partition.read("alerts", list[Finding]),
        window_hours=request.retraining_window_hours,
        may_retrain=not request.is_backfill,
        parameters=request.retraining,
    )
    partition.write("decision", decision)
    if isinstance(decision, NotAsked):
        raise Refused(decision.sentence)
    found: Mapping[str, Any] = msgspec.to_builtins(decision)
    return found


STEPS: Mapping[str, Callable[[MlopsConfig, bytes], Mapping[str, Any]]] = {
    "collect": collect,
    "anomalies": look_for_anomalies,
    "drift": look_for_drift,
    "quality": look_at_quality,
    "alerts": alerts,
    "send": send_alerts,
    "refresh": refresh,
    "decide": decide,
}


def _asked(config: MlopsConfig, content: bytes) -> tuple[MonitoringRequest, HourPartition]:
    request = request_of(content, MonitoringRequest)
    if request.hour.tzinfo is None:
        raise BadRequest(f"hour {request.hour} has no time zone")
    request = msgspec.structs.replace(request, hour=request.hour.astimezone(UTC))
    try:
        return request, HourPartition(config.retraining.data_path, request.first_second)
    except ValueError as error:
        raise BadRequest(str(error)) from error


def _looked(partition: HourPartition, name: str, look: Look) -> Mapping[str, Any]:
    partition.write(name, look)
    for sentence in look.not_judged:
        log.info("not judged: %s", sentence)
    return {"findings": len(look.findings), "sentence": look.sentence}
