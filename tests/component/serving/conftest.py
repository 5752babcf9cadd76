"""Servers of the demo model's versions in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mlops.serving.app import ModelServer
from mlops.serving.model import Model, load_model
from mlops.training.linear_adapter import BETTER_VERSION, Material


@pytest.fixture(scope="session")
def model(versions: dict[str, Path]) -> Model:
    return load_model(versions[BETTER_VERSION], versions[BETTER_VERSION].parent)


@pytest.fixture(scope="session")
def material(versions: dict[str, Path]) -> Material:
    return Material.load(versions[BETTER_VERSION].parent)


@pytest.fixture
async def client(model: Model) -> AsyncIterator[TestClient]:
    server = ModelServer()
    server.model = model
    async with TestClient(TestServer(server.application())) as client:
        yield client
