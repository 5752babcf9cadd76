"""Take a version back on several real gateways, one of which does not know the model."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from mlops.config import MlopsConfig, NoticeSettings, read_config
from mlops.contracts.plan import RoutePlan, Slot
from mlops.deployment import NotDeployable, RollbackIncomplete, RollbackManager
from mlops.deployment.gateway_client import GatewayClient
from mlops.local.child import free_ports
from mlops.local.stack import ANY_PORTS, Stack

pytestmark = pytest.mark.process

NOBODY = "http://127.0.0.1:9"
SECRET = "whsec_" + "c2VjcmV0IG9mIGEgdGVzdA=="


def route(model: str) -> dict[str, object]:
    stable = {"version": "1.0.0", "endpoints": [NOBODY]}
    return {"name": "rag", "model": model, "match": {"prefix": "/"}, "stable": stable}


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Stack]]:
    """Two that serve model `m`, and one that serves another."""
    stacks = []
    tokens: dict[str, str] | None = None
    try:
        for model in ("m", "m", "another"):
            stack = Stack(tmp_path_factory.mktemp("gateway"), ANY_PORTS, os.environ)
            tokens = tokens or stack.secrets
            stack.secrets = tokens  # one token for all of them, as an operator has it
            stacks.append(stack)
            stack.start_gateway([route(model)])
        yield stacks
    finally:
        for stack in stacks:
            stack.stop()


@dataclass
class Hook:
    """Somebody who is told; `statuses` are what it answers, the last one for ever."""

    url: str = ""
    statuses: list[int] = field(default_factory=lambda: [204])
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.taken.append((dict(request.headers), await request.read()))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status)


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    found = Hook()
    app = web.Application()
    app.router.add_post("/hook", found.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = "http://{}:{}/hook".format(*runner.addresses[0])
    yield found
    await runner.cleanup()


@pytest.fixture
def config(gateways: list[Stack], hook: Hook, tmp_path: Path) -> MlopsConfig:
    """All three gateways; nobody else of this system is there."""
    away = f"http://127.0.0.1:{free_ports(1)[0]}"
    environ = {
        "MLOPS_GATEWAY_ADMIN_URLS": ",".join(one.addresses["admin"] for one in gateways),
        "GATEWAY_OPERATOR_TOKEN": gateways[0].secrets["GATEWAY_OPERATOR_TOKEN"],
        "MLOPS_AGENT_URL": away,
        "MLOPS_MLFLOW_TRACKING_URI": away,
        "MLOPS_NOTICE_URL": hook.url,
        "MLOPS_NOTICE_SECRET": SECRET,
    }
    return read_config(environ, tmp_path)


async def promoted(config: MlopsConfig, urls: tuple[str, ...]) -> None:
    """2.0.0 serves everybody, and 1.0.0 is kept."""
    for url in urls:
        async with GatewayClient(url, config.places.gateway_token, actor="test") as client:
            live = (await client.route("rag")).plan
            plan = RoutePlan(
                route="rag",
                generation=live.generation + 1,
                salt="r",
                stable=Slot(version="2.0.0", endpoints=(NOBODY,)),
                previous=Slot(version="1.0.0", endpoints=(NOBODY,)),
                set_by="test",
                reason="promoted",
            )
            await client.put_plan(plan)


async def test_those_that_have_the_model_act_and_the_others_are_named(
    config: MlopsConfig, hook: Hook
) -> None:
    first, second, third = config.places.gateway_admin_urls
    await promoted(config, (first, second))
    hook.statuses = [500, 204]

    result = await RollbackManager(config).emergency_rollback(
        "m", "too many errors", to="1.0.0", force=True
    )
    again = await RollbackManager(config).emergency_rollback(
        "m", "too many errors", to="1.0.0", force=True
    )

    assert result.routes == {"rag": "1.0.0"}
    assert result.taken_back == ("2.0.0",)
    assert result.confirmed == (first, second)
    assert result.without_model == (third,)
    assert not result.recorded
    assert result.not_told == ""
    assert (again.routes, again.confirmed, again.taken_back) == (
        result.routes,
        result.confirmed,
        (),
    )
    (headers, body), (repeated, _), _ = hook.taken
    assert headers["webhook-id"] == repeated["webhook-id"], "the same notice, told again"
    Webhook(SECRET).verify(body.decode(), headers)
    told = msgspec.json.decode(body)
    assert told["type"] == "rollback.by_hand"
    assert told["data"]["reason"] == "too many errors"
    assert told["data"]["confirmed"] == [first, second]


async def test_a_version_that_is_not_kept_is_refused_and_nothing_changes(
    config: MlopsConfig, hook: Hook
) -> None:
    first, second, _ = config.places.gateway_admin_urls
    await promoted(config, (first, second))

    for model, to, said in (("m", "0.9.0", "keeps 1.0.0 to return to, not 0.9.0"), ("n", None, "")):
        with pytest.raises(NotDeployable, match=said or "no route serves model 'n'"):
            await RollbackManager(config).emergency_rollback(model, "a mistake", to=to)

    async with GatewayClient(first, config.places.gateway_token) as client:
        assert (await client.route("rag")).plan.stable.version == "2.0.0"
    assert hook.taken == []


async def test_one_that_does_not_answer_is_named_and_the_others_have_acted(
    config: MlopsConfig,
) -> None:
    first, *_ = config.places.gateway_admin_urls
    await promoted(config, (first,))
    gone = f"http://127.0.0.1:{free_ports(1)[0]}"
    places = replace(config.places, gateway_admin_urls=(first, gone))
    nobody = NoticeSettings(url=f"{gone}/hook")
    changed = replace(config, places=places, notices=nobody)

    with pytest.raises(RollbackIncomplete) as failed:
        await RollbackManager(changed).emergency_rollback("m", "bad", force=True)

    result = failed.value.result
    assert result.confirmed == (first,)
    assert list(result.unconfirmed) == [gone]
    assert "did not answer" in result.not_told
    assert gone not in result.not_told, "a webhook's address may be a secret"


async def test_the_command_returns_to_the_version_that_is_named(
    config: MlopsConfig, hook: Hook, tmp_path: Path
) -> None:
    first, second, _ = config.places.gateway_admin_urls
    await promoted(config, (first, second))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "MLOPS_GATEWAY_ADMIN_URLS": f"{first},{second}",
        "GATEWAY_OPERATOR_TOKEN": config.places.gateway_token,
        "MLOPS_NOTICE_URL": hook.url,
    }

    async def rollback(to: str) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", "rollback", "rag", "--to", to, "--force",
            env=environment, cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    refused = await rollback("0.9.0")
    done = await rollback("1.0.0")
    again = await rollback("1.0.0")

    assert refused[0] == 1
    assert refused[2].count("keeps 1.0.0 to return to, not 0.9.0") == 2
    for code, out, err in (done, again):
        assert code == 0, err
        assert out.count(": stable 1.0.0, live split 0 %") == 2
    notices = [msgspec.json.decode(body)["data"] for _, body in hook.taken]
    assert [(one["target"], len(one["confirmed"])) for one in notices] == [
        ("rag", 0),
        ("rag", 2),
        ("rag", 2),
    ]
