"""Which version the program says it is."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from mlops.service import version as module
from mlops.service.version import program_version

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    program_version.cache_clear()
    yield
    program_version.cache_clear()


def not_installed(_: str) -> str:
    raise PackageNotFoundError


def test_a_checkout_is_what_its_pyproject_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "version", not_installed)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert program_version() == project["version"]


def test_an_installed_one_is_what_its_package_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "version", lambda name: f"7 of {name}")
    assert program_version() == "7 of rag-mlops"


def test_without_either_it_is_unknown_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "version", not_installed)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    assert program_version() == "unknown"
