"""One real MLflow server for all tests here: every test has an experiment and models of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from mlops.config import MlflowSettings, MlopsConfig, read_config
from mlops.local.processes import Command, start, stop

_numbers = count(1)


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory: Path = tmp_path_factory.mktemp("mlflow")
    command = Command(
        name="mlflow",
        arguments=["mlops.local.mlflow_server", "--path", str(directory / "data"), "--port", "0"],
        environment={k: v for k, v in os.environ.items() if not k.startswith("MLOPS_")},
    )
    started = start(command, directory)
    try:
        yield started.urls[0]
    finally:
        assert not stop([started], lambda: os.waitpid(started.pid, os.WNOHANG))


@pytest.fixture
def mlflow_settings(mlflow_url: str) -> MlflowSettings:
    return MlflowSettings(
        tracking_uri=mlflow_url,
        registry_uri=mlflow_url,
        experiment_name=f"experiment-{next(_numbers)}",
    )


@pytest.fixture
def config(mlflow_settings: MlflowSettings, tmp_path: Path) -> MlopsConfig:
    return replace(read_config({}, tmp_path), mlflow=mlflow_settings)


@pytest.fixture
def model_name() -> str:
    return f"model-{next(_numbers)}"
