"""The code of docs/library.md, as it stands there, against a whole stack of real servers."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pytest
from aiohttp.test_utils import TestServer

from mlops.config import MlopsConfig, read_config
from mlops.contracts.api import RouteStatus
from mlops.deployment import (
    CanaryDeployment,
    DeploymentConfig,
    NotDeployable,
    ReleaseUnderWay,
    RollbackManager,
)
from mlops.deployment.agent_client import AgentClient
from mlops.deployment.canary import answers_of
from mlops.deployment.errors import AgentRefused, ServerError, ServerRefused, ServerUnavailable
from mlops.deployment.server_client import ServerClient
from mlops.doctor.checks import examine
from mlops.doctor.findings import State
from mlops.local.first_versions import register_first_versions
from mlops.local.stack import ANY_PORTS, Stack
from mlops.model_registry import RAGModelRegistry, UnknownVersion
from mlops.serving.app import ModelServer
from mlops.serving.fetching import fetching, load_version
from mlops.serving.model import read_manifest, write_model
from mlops.serving.versions import Versions

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]

MODEL = "rag_embedding_model"
VERSION = "1.2.3"
PAGE = Path(__file__).parents[2] / "docs/library.md"


def snippets() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def whole_stack(
    tmp_path_factory: pytest.TempPathFactory, versions: dict[str, Path]
) -> Iterator[Stack]:
    """Every part there is; the route's model is the one that the page releases."""
    stack = Stack(directory=tmp_path_factory.mktemp("stack"), ports=ANY_PORTS, environ=os.environ)
    try:
        stack.begin_s3()()
        mlflow_ready = stack.begin_mlflow()
        stack.start_clickhouse()
        stable = stack.start_model("model-a", versions["1.0.0"], 0)
        stack.start_model("model-b", versions["1.1.0"], 0)
        route = {
            "name": "rag",
            "model": MODEL,
            "match": {"prefix": "/"},
            "stable": {"version": "1.0.0", "endpoints": [stable]},
        }
        stack.start_gateway([route])
        stack.start_recorder()
        stack.start_agent()
        mlflow_ready()
        registered = read_config(stack.environment(), stack.directory)
        first = {version: versions[version] for version in ("1.0.0", "1.1.0")}
        for _ in "as `up` does", "and does again":
            register_first_versions(registered, MODEL, first, champion="1.0.0")
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def config(whole_stack: Stack) -> MlopsConfig:
    return read_config(whole_stack.environment(), whole_stack.directory)


@pytest.fixture(scope="module")
def model_folder(versions: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model under the version that the page names."""
    folder = tmp_path_factory.mktemp("model") / "model"
    folder.mkdir()
    manifest = read_manifest(versions["1.0.0"])
    write_model(folder, msgspec.structs.replace(manifest, version=VERSION), None)
    return folder


def run_page(stack: Stack, model_folder: Path, where: Path) -> str:
    code = "\n".join(snippets())
    code = code.replace("/path/to/model", str(model_folder))
    code = code.replace("/tmp/downloaded_model", str(where / "downloaded_model"))
    done = subprocess.run(
        [sys.executable, "-W", "ignore::SyntaxWarning", "-c", code],
        cwd=where,
        env=stack.environment() | {"PYTHONPATH": str(PAGE.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Unclosed" not in done.stderr
    return done.stdout


def test_the_page_runs_as_it_stands(
    whole_stack: Stack, config: MlopsConfig, model_folder: Path, tmp_path: Path
) -> None:
    registry = RAGModelRegistry(config)
    assert [one.version for one in registry.history(MODEL)] == ["1.1.0", "1.0.0"]

    out = run_page(whole_stack, model_folder, tmp_path)

    assert "Model registered as version: 2.0.0" in out, "its run says nothing of an encoder"
    assert "View run" not in out, "MLflow's lines are not ours"
    assert "Canary deployment: Deployment(release_id='rel-" in out
    assert "Rollback result: RolledBack(" in out
    assert "unconfirmed={}" in out
    assert "Retrieved 1 training samples" in out
    assert read_manifest(tmp_path / "downloaded_model").version == VERSION
    assert registry.resolve(MODEL, "champion").version == "1.0.0", "a release moves it, no training"


async def test_aliases_follow_a_release_and_its_rollback(config: MlopsConfig) -> None:
    await ended(config)
    registry, deployment = RAGModelRegistry(config), CanaryDeployment(config)
    wanted = DeploymentConfig(model_name=MODEL, model_version="1.1.0")

    made = await deployment.deploy_canary(wanted)
    await published(config, made.release_id)
    assert registry.resolve(MODEL, "challenger").version == "1.1.0"
    await RollbackManager(config).emergency_rollback(MODEL, reason="High error rate detected")

    one = registry.resolve(MODEL, "1.1.0")
    assert one.rejected == "High error rate detected"
    assert one.aliases == ()
    assert registry.resolve(MODEL, "champion").version == "1.0.0"
    await ended(config)
    for version, kind, told in (
        ("1.0.9", UnknownVersion, r"1\.0\.9.* is not stored"),
        ("champion", NotDeployable, r"'champion' is an alias of .* 1\.0\.0"),
    ):
        with pytest.raises(kind, match=told):
            await deployment.deploy_canary(replace(wanted, model_version=version))


async def ended(config: MlopsConfig) -> list[str]:
    """The ids of all releases, once none is under way any more."""
    places = config.places
    async with AgentClient(places.agent_url, places.agent_token, actor="test") as agent:
        while True:
            found = await agent.releases()
            running = [one for one in found if one.ended_at is None]
            if not running:
                return [one.id for one in found]
            for one in running:
                with suppress(AgentRefused):  # it has ended since
                    await agent.command(one.id, "abort", "the next test")
            await asyncio.sleep(0.2)


async def published(config: MlopsConfig, release_id: str) -> RouteStatus:
    """The route, once the release has traffic. After a rollback by hand it waits for a person."""
    places = config.places
    async with AgentClient(places.agent_url, places.agent_token, actor="test") as agent:
        while True:
            (route,) = await answers_of(places, "test")
            if route.plan.canary is not None and route.plan.canary_share_bp:
                return route
            if (await agent.release(release_id)).phase == "paused":
                await agent.command(release_id, "resume", "the next test")
            await asyncio.sleep(0.1)


async def served_by(url: str, token: str = "") -> tuple[str, str]:
    async with ServerClient(url, token) as server:
        found = await server.loaded()
    return found.model, found.version


async def test_while_another_version_is_released_nothing_is_loaded(config: MlopsConfig) -> None:
    await ended(config)
    deployment = CanaryDeployment(config)
    first = await deployment.deploy_canary(
        DeploymentConfig(model_name=MODEL, model_version=VERSION)
    )
    (pool_b,), token = config.places.pool_b, config.places.server_token

    with pytest.raises(
        ReleaseUnderWay, match=f"release {first.release_id} of {VERSION}"
    ) as refused:
        await deployment.deploy_canary(DeploymentConfig(model_name=MODEL, model_version="1.2.4"))

    assert refused.value.release_id == first.release_id
    assert await served_by(pool_b, token) == (MODEL, VERSION)
    await ended(config)
    with pytest.raises(NotDeployable, match=r"1\.0\.0 is stable already"):
        await deployment.deploy_canary(DeploymentConfig(model_name=MODEL, model_version="1.0.0"))


@pytest.fixture
async def empty_server(
    versions: dict[str, Path], tmp_path: Path, whole_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """A server that has fetched nothing yet, and reads its settings from this process."""
    for name, setting in whole_stack.environment().items():
        monkeypatch.setenv(name, setting)
    cache = versions["1.1.0"].parent
    served = Versions(partial(load_version, corpus_cache=cache), fetching(tmp_path))
    await served.serve_directory(versions["1.1.0"])
    async with TestServer(ModelServer(served).application()) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.mark.parametrize(
    ("setting", "spoiled", "kind", "code"),
    [
        ("MLOPS_MINIO_BUCKET_NAME", "vanished", ServerRefused, "missing_bucket"),
        ("MLOPS_MINIO_SECRET_KEY", "not-the-secret", ServerRefused, "bad_credentials"),
        ("MLOPS_MINIO_ENDPOINT", "127.0.0.1:9", ServerUnavailable, ""),
    ],
)
async def test_a_store_that_fails_has_its_own_error_and_nothing_is_begun(
    config: MlopsConfig,
    empty_server: str,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    spoiled: str,
    kind: type[ServerError],
    code: str,
) -> None:
    before = await ended(config)
    places = replace(config.places, pool_b=(empty_server,), server_token="")
    monkeypatch.setenv(setting, spoiled)

    with pytest.raises(kind, match=f"{MODEL} {VERSION} cannot be fetched") as failed:
        await CanaryDeployment(replace(config, places=places)).deploy_canary(
            DeploymentConfig(model_name=MODEL, model_version=VERSION)
        )

    assert getattr(failed.value, "code", "") == code
    assert await ended(config) == before
    assert (await served_by(empty_server))[1] == "1.1.0"
    (route,) = await answers_of(config.places, "test")
    assert route.plan.canary is None


async def test_a_release_that_the_agent_refuses_leaves_the_servers_as_they_were(
    config: MlopsConfig, empty_server: str
) -> None:
    before = await ended(config)
    places = replace(config.places, pool_b=(empty_server,), server_token="")

    with pytest.raises(AgentRefused, match="setWait"):
        await CanaryDeployment(replace(config, places=places)).deploy_canary(
            DeploymentConfig(
                model_name=MODEL, model_version=VERSION, policy={"steps": [{"setWait": 10}]}
            )
        )

    assert await ended(config) == before
    assert (await served_by(empty_server))[1] == "1.1.0"


async def test_repeating_finds_the_release_and_a_rollback_needs_only_the_gateway(
    whole_stack: Stack, config: MlopsConfig
) -> None:
    await ended(config)
    deployment = CanaryDeployment(config)
    wanted = DeploymentConfig(model_name=MODEL, model_version=VERSION, traffic_percentage=10)

    first = await deployment.deploy_canary(wanted)
    again = await deployment.deploy_canary(wanted)

    assert first.started
    assert first.endpoints == config.places.pool_b
    assert not again.started
    assert again.release_id == first.release_id
    route = await published(config, first.release_id)
    assert route.plan.canary is not None
    assert route.plan.canary.version == VERSION
    assert route.plan.canary.endpoints == config.places.pool_b
    with pytest.raises(NotDeployable, match="served by 0 routes"):
        await deployment.deploy_canary(replace(wanted, model_name="nobody's"))

    before = await examine(config, whole_stack.directory)
    for part in ("agent", "mlflow", "s3", "recorder", "clickhouse"):
        whole_stack.kill(part)
    after = await examine(config, whole_stack.directory)
    assert {one.state for one in before} == {State.OK}, before
    failed = [one.part.split()[0] for one in after if one.state is State.FAILED]
    assert failed == ["agent", "ClickHouse", "MLflow", "S3"]
    result = await RollbackManager(config).emergency_rollback(MODEL, reason="all is lost")

    assert result.confirmed == config.places.gateway_admin_urls
    assert result.routes == {"rag": "1.0.0"}
    assert result.taken_back == (VERSION,)
    assert not result.recorded
    assert "MLflow" in result.not_recorded
    (route,) = await answers_of(config.places, "test")
    assert route.share_bp == 0
