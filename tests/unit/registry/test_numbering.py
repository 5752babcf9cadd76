"""Numbering waits for versions made just before, and not for ever."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlops import model_registry
from mlops.config import read_config
from mlops.model_registry import EmbeddingSpace, RAGModelRegistry
from mlops.registry.versioning import Facts

AN_HOUR_MS = 3_600_000


class Registry:
    """MLflow's, with a version that nobody numbers; its clock is an hour ahead of ours."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}

    def search_registered_models(self, _: str) -> list[Any]:
        return [SimpleNamespace(aliases={})]

    def search_model_versions(self, _: str) -> list[Any]:
        unnumbered = SimpleNamespace(
            name="m", version="1", run_id="r", source="s", tags={"kind": "embedding"},
            creation_timestamp=time.time_ns() // 10**6 + AN_HOUR_MS,
        )  # fmt: skip
        return [unnumbered]

    def set_model_version_tag(self, _: str, __: str, key: str, value: str) -> None:
        self.tags[key] = value


def test_a_clock_that_is_ahead_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_registry, "NUMBERING_WAIT_S", 0.2)
    client: Any = Registry()
    facts = Facts(space=EmbeddingSpace(), metrics={})
    made = RAGModelRegistry(read_config({}, tmp_path))._number(client, "m", 2, facts, None)
    assert made == "1.0.0"
    assert client.tags["version"] == "1.0.0"
