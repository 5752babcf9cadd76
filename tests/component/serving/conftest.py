"""Servers of the demo model's versions in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from mlops.serving.app import ModelServer
from mlops.serving.model import Model, load_model
from mlops.serving.versions import Versions
from mlops.training.linear_adapter import BETTER_VERSION, Material


@pytest.fixture(scope="session")
def model(versions: dict[str, Path]) -> Model:
    return load_model(versions[BETTER_VERSION], versions[BETTER_VERSION].parent)


@pytest.fixture(scope="session")
def material(versions: dict[str, Path]) -> Material:
    return Material.load(versions[BETTER_VERSION].parent)


@pytest.fixture
def served(model: Model, versions: dict[str, Path]) -> Versions:
    """That model, and the others by name, as if they came from the store."""
    found = Versions(
        partial(load_model, corpus_cache=versions[BETTER_VERSION].parent),
        lambda _, version: versions.get(version, Path("nowhere")),
    )
    found._put((model.name, model.version), model)
    return found


@pytest.fixture
async def client(served: Versions) -> AsyncIterator[TestClient]:
    async with TestClient(TestServer(ModelServer(served).application())) as client:
        yield client
