"""A release that the agent refuses: what the model servers serve afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from mlops.config import MlopsConfig, read_config
from mlops.contracts.api import Problem, RouteStatus
from mlops.contracts.plan import RoutePlan, Slot
from mlops.contracts.release import ReleaseStatus
from mlops.deployment import CanaryDeployment, Deployment, DeploymentConfig, NotDeployable
from mlops.deployment.errors import AgentRefused, AgentUnavailable
from mlops.model_registry import (
    RAGModelRegistry,
    RegisteredVersion,
    TrackingError,
    TrackingUnavailable,
    UnknownVersion,
)

MODEL, OLD, NEW, OTHER = "m", "1.0.0", "1.0.1", "1.0.2"


def answer(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status)


@dataclass
class World:
    """A gateway, an agent and a model server, as far as a deployment asks them."""

    releases: list[list[ReleaseStatus] | None] = field(default_factory=list)
    """What the agent answers when it is asked, one after the other; None: it is away."""
    refusal: int = 409
    loaded: list[str] = field(default_factory=list)
    """Versions that the model server was told to serve."""
    stable: Slot = field(default_factory=lambda: Slot(version=OLD, endpoints=("http://a:1",)))
    left_behind: Slot | None = None
    """What a second gateway sends the route's users to; None: it does not answer."""
    tracking: TrackingError | None = None
    """What the registry says when an alias is to be moved."""

    async def routes(self, _: web.Request) -> web.Response:
        plan = RoutePlan(route="r", generation=2, salt="r", stable=self.stable)
        return answer({"routes": [RouteStatus(plan=plan, share_bp=0, model=MODEL)]})

    async def older_routes(self, _: web.Request) -> web.Response:
        if self.left_behind is None:
            return answer(Problem(error="starting", code="unavailable"), 503)
        plan = RoutePlan(route="r", generation=1, salt="r", stable=self.left_behind)
        return answer({"routes": [RouteStatus(plan=plan, share_bp=0, model=MODEL)]})

    async def list_releases(self, _: web.Request) -> web.Response:
        told = self.releases.pop(0)
        if told is None:
            return answer(Problem(error="the memory is away", code="unavailable"), 503)
        return answer(told)

    async def start(self, _: web.Request) -> web.Response:
        if self.refusal == 200:
            return answer(released(NEW), 201)
        return answer(Problem(error="no", code="refused"), self.refusal)

    async def served(self, _: web.Request) -> web.Response:
        return answer({"model": MODEL, "version": OLD})

    async def load(self, request: web.Request) -> web.Response:
        asked = msgspec.json.decode(await request.read())
        self.loaded.append(asked["version"])
        return answer(asked)


@dataclass
class KnowsEverything:
    """A registry in which every version is."""

    world: World

    def resolve(self, _: str, version: str) -> RegisteredVersion:
        return cast("RegisteredVersion", SimpleNamespace(version=version))

    def set_challenger(self, _: str, version: str) -> None:
        raise self.world.tracking or UnknownVersion(version)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def deployment(world: World, tmp_path: Path) -> AsyncIterator[CanaryDeployment]:
    gateway, agent, server, older = (web.Application() for _ in range(4))
    gateway.router.add_get("/v1/routes", world.routes)
    older.router.add_get("/v1/routes", world.older_routes)
    agent.router.add_get("/v1/releases", world.list_releases)
    agent.router.add_post("/v1/releases", world.start)
    server.router.add_get("/admin/models", world.served)
    server.router.add_post("/admin/models", world.load)
    async with AsyncExitStack() as running:
        urls = []
        for app in (gateway, agent, server, older):
            found = await running.enter_async_context(TestServer(app))
            urls.append(str(found.make_url("")).rstrip("/"))
        config: MlopsConfig = read_config({}, tmp_path)
        places = replace(
            config.places,
            gateway_admin_urls=(urls[3], urls[0]),
            agent_url=urls[1],
            pool_a=(urls[2],),
        )
        yield CanaryDeployment(
            replace(config, places=places),
            registry=cast("RAGModelRegistry", KnowsEverything(world)),
        )


def released(version: str) -> ReleaseStatus:
    return ReleaseStatus(
        id="rel-1", route="r", version=version, stable=OLD, phase="progressing", step=1, steps=3,
        weight=5.0, generation=2, reason="", verdict="UNDECIDED", reasons=(),
    )  # fmt: skip


async def deploy(deployment: CanaryDeployment) -> Deployment:
    return await deployment.deploy_canary(DeploymentConfig(model_name=MODEL, model_version=NEW))


async def test_the_server_serves_again_what_it_did(
    world: World, deployment: CanaryDeployment
) -> None:
    world.releases, world.refusal = [[], []], 400
    with pytest.raises(AgentRefused):
        await deploy(deployment)
    assert world.loaded == [NEW, OLD]


async def test_where_another_was_faster_it_serves_what_that_one_releases(
    world: World, deployment: CanaryDeployment
) -> None:
    world.releases = [[], [released(OTHER)]]
    with pytest.raises(AgentRefused):
        await deploy(deployment)
    assert world.loaded == [NEW, OTHER]


async def test_an_agent_that_goes_away_after_its_refusal_leaves_nothing_loaded(
    world: World, deployment: CanaryDeployment
) -> None:
    """And it is the refusal that the caller hears of."""
    world.releases = [[], None]
    with pytest.raises(AgentRefused):
        await deploy(deployment)
    assert world.loaded == [NEW, OLD]


async def test_before_anything_is_loaded_the_agent_must_answer(
    world: World, deployment: CanaryDeployment
) -> None:
    world.releases = [None]
    with pytest.raises(AgentUnavailable):
        await deploy(deployment)
    assert not world.loaded


async def test_users_of_a_gateway_that_was_left_behind_get_no_version_unreleased(
    world: World, deployment: CanaryDeployment
) -> None:
    """A rollback reached the others: on its servers stable is what these took back."""
    world.releases = [[], []]
    pool_a, pool_b = deployment._config.places.pool_a, deployment._config.places.pool_b
    world.stable = Slot(version=OLD, endpoints=pool_b)
    world.left_behind = Slot(version=OTHER, endpoints=pool_a)

    with pytest.raises(NotDeployable, match=f"pool a: route 'r' sends requests for {OTHER}"):
        await deploy(deployment)

    assert not world.loaded


async def test_a_gateway_that_is_away_holds_nothing_up(
    world: World, deployment: CanaryDeployment
) -> None:
    world.releases, world.refusal = [[]], 200
    made = await deploy(deployment)
    assert made.started
    assert made.not_recorded == ""
    assert world.loaded == [NEW]


async def test_a_release_that_has_begun_is_told_of_though_mlflow_has_gone_away(
    world: World, deployment: CanaryDeployment
) -> None:
    world.releases, world.refusal = [[]], 200
    world.tracking = TrackingUnavailable("MLflow is away")
    made = await deploy(deployment)
    assert made.started
    assert made.not_recorded == "MLflow is away"
