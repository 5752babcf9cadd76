"""Releases that have published nothing yet are ended by a rollback, each on its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from mlops.config import read_config
from mlops.contracts.api import Problem
from mlops.contracts.release import ReleaseStatus
from mlops.deployment import RollbackManager
from mlops.model_registry import RAGModelRegistry


def beginning(name: str) -> ReleaseStatus:
    return ReleaseStatus(
        id=name, route=name, version=f"of-{name}", stable="1.0.0", phase="progressing", step=1,
        steps=3, weight=5.0, generation=0, reason="", verdict="UNDECIDED", reasons=(),
    )  # fmt: skip


async def test_one_that_has_just_ended_by_itself_holds_up_no_other(tmp_path: Path) -> None:
    aborted = []

    async def listed(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode([beginning("ended"), beginning("begins")]))

    async def abort(request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if name == "ended":
            problem = Problem(error="it has ended", code="conflict")
            return web.Response(status=409, body=msgspec.json.encode(problem))
        aborted.append(name)
        return web.Response(body=msgspec.json.encode(beginning(name)))

    app = web.Application()
    app.router.add_get("/v1/releases", listed)
    app.router.add_post("/v1/releases/{id}/abort", abort)
    async with TestServer(app) as agent:
        config = read_config({}, tmp_path)
        places = replace(config.places, agent_url=str(agent.make_url("")).rstrip("/"))
        manager = RollbackManager(
            replace(config, places=places), registry=cast("RAGModelRegistry", object())
        )
        found = await manager._abort_releases({"ended", "begins"}, "all is lost")

    assert aborted == ["begins"]
    assert found == ["of-begins"]
