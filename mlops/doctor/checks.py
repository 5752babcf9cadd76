"""Ask every part how it is. A part that does not answer is a finding, never an exception."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

from mlops.artifact_store.bucket import Bucket
from mlops.artifact_store.errors import ArtifactError, BadCredentials, MissingBucket
from mlops.config import MlopsConfig, PlacesSettings
from mlops.config.values import without_user
from mlops.deployment.clients import agent_client, gateway_client, server_client
from mlops.deployment.errors import (
    AgentError,
    AgentRefused,
    GatewayError,
    GatewayRefused,
    ServerError,
)
from mlops.doctor.findings import Finding, State, clock, disk, schema
from mlops.feature_store.connection import open_client, translated
from mlops.feature_store.errors import Unavailable
from mlops.feature_store.migrations import pending
from mlops.tracking.connection import MlflowConnection
from mlops.tracking.errors import TrackingError


async def examine(config: MlopsConfig, where: Path) -> list[Finding]:
    """Everything, at the same time; in the order of a request's way through the system."""
    places = config.places
    checks: list[Awaitable[Sequence[Finding]]] = [
        *(_gateway(url, places) for url in places.gateway_admin_urls),
        _agent(places),
        *(
            _server(f"model server {pool}", url, places)
            for pool, urls in (("a", places.pool_a), ("b", places.pool_b))
            for url in urls
        ),
        _clickhouse(config),
        _mlflow(config),
        _bucket(config),
        _disk(where),
    ]
    found = await asyncio.gather(*checks)
    return [finding for findings in found for finding in findings]


def _ok(part: str, what: str) -> Finding:
    return Finding(part=part, state=State.OK, what=what)


def _failed(part: str, what: object, mend: str) -> Finding:
    return Finding(part=part, state=State.FAILED, what=str(what), mend=mend)


async def _gateway(url: str, places: PlacesSettings) -> list[Finding]:
    part = f"gateway {url}"
    try:
        async with gateway_client(places, url, actor="doctor") as client:
            routes = await client.routes()
    except GatewayRefused as error:
        mend = "set GATEWAY_OPERATOR_TOKEN to a token of this gateway's file"
        return [_failed(part, error, mend)]
    except GatewayError as error:
        mend = "start it (rag-mlops gateway), or see MLOPS_GATEWAY_ADMIN_URLS"
        return [_failed(part, error, mend)]
    findings = [_ok(part, f"serves {len(routes)} routes")]
    for route in routes:
        name = f"{part} route {route.plan.route}"
        ill = [
            f"{one.endpoint}: {one.reason or 'not healthy'}"
            for slot in route.upstreams.values()
            for one in slot
            if not one.healthy
        ]
        if ill:
            mend = "start the model server, or take the version back: rag-mlops rollback"
            what = "; ".join(ill)
            findings.append(Finding(part=name, state=State.WARNING, what=what, mend=mend))
        if route.lease is not None and route.lease.lapsed:
            mend = "start the agent, or see what it says of its evidence"
            what = "the lease has ended: everything goes to stable"
            findings.append(Finding(part=name, state=State.WARNING, what=what, mend=mend))
    return findings


async def _agent(places: PlacesSettings) -> list[Finding]:
    part = f"agent {places.agent_url}"
    try:
        async with agent_client(places, actor="doctor") as client:
            releases = await client.releases()
    except AgentRefused as error:
        mend = "set AGENT_OPERATOR_TOKEN to a token of the agent's file"
        return [_failed(part, error, mend)]
    except AgentError as error:
        mend = "start it (rag-mlops agent), or see MLOPS_AGENT_URL; traffic goes on without it"
        return [_failed(part, error, mend)]
    running = [one for one in releases if one.ended_at is None]
    what = f"{len(running)} releases under way"
    return [_ok(part, what)]


async def _server(part: str, url: str, places: PlacesSettings) -> list[Finding]:
    try:
        async with server_client(places, url, actor="doctor") as client:
            served = await client.served()
    except ServerError as error:
        mend = "start it (rag-mlops model-server), or see MLOPS_MODEL_POOL_A and _B"
        return [Finding(part=f"{part} {url}", state=State.WARNING, what=str(error), mend=mend)]
    what = f"serves {served.model} {served.version}"
    return [Finding(part=f"{part} {url}", state=State.OK, what=what)]


async def _clickhouse(config: MlopsConfig) -> list[Finding]:
    settings = config.clickhouse
    part = f"ClickHouse {settings.host}:{settings.port}"
    try:
        ahead_s, version = await _clickhouse_clock(config)
        missing = await pending(settings)
    except Unavailable as error:
        mend = "start it, or see MLOPS_CLICKHOUSE_*; the spool keeps what is answered meanwhile"
        return [_failed(part, error, mend)]
    return [
        _ok(part, f"version {version}"),
        clock(part, ahead_s),
        schema(missing),
    ]


async def _clickhouse_clock(config: MlopsConfig) -> tuple[float, str]:
    """How far its clock is ahead of ours, half of the round trip allowed for, and its version."""
    client: Any = await open_client(config.clickhouse, database=None)
    try:
        async with translated(config.clickhouse, "ask for the time"):
            before_s = time.time()  # noqa: TID251  two clocks of the wall are compared
            answer = await client.query("SELECT toFloat64(now64(6)), version()")
            after_s = time.time()  # noqa: TID251  as above
    finally:
        await client.close()
    told_s, version = answer.result_rows[0]
    return told_s - (before_s + after_s) / 2, str(version)


async def _mlflow(config: MlopsConfig) -> list[Finding]:
    part = f"MLflow {without_user(config.mlflow.tracking_uri)}"
    mend = "start it, or see MLOPS_MLFLOW_TRACKING_URI; releases under way do not need it"
    try:
        is_away = await asyncio.to_thread(MlflowConnection(config.mlflow).is_away)
    except TrackingError as error:
        return [_failed(part, error, mend)]
    if is_away:
        return [_failed(part, "does not answer", mend)]
    return [_ok(part, "answers")]


async def _bucket(config: MlopsConfig) -> list[Finding]:
    part = f"S3 {config.minio.endpoint}/{config.minio.bucket_name}"
    try:
        await asyncio.to_thread(_list_one, config)
    except MissingBucket as error:
        mend = "rag-mlops artifacts init"
        return [_failed(part, error, mend)]
    except BadCredentials as error:
        mend = "set MLOPS_MINIO_ACCESS_KEY and MLOPS_MINIO_SECRET_KEY"
        return [_failed(part, error, mend)]
    except ArtifactError as error:
        mend = "start it, or see MLOPS_MINIO_ENDPOINT"
        return [_failed(part, error, mend)]
    return [_ok(part, "lists its objects")]


def _list_one(config: MlopsConfig) -> None:
    next(iter(Bucket(config.minio).listed("models/")), None)


async def _disk(where: Path) -> list[Finding]:
    existing = next(path for path in (where, *where.absolute().parents) if path.exists())
    return [disk(str(where), shutil.disk_usage(existing).free)]
