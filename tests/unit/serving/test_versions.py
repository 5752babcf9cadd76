"""Which version serves, when one cannot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from mlops.serving.fetching import fetching
from mlops.serving.model import BadModel
from mlops.serving.process import argument_parser, settings_of
from mlops.serving.versions import Servable, Versions


@dataclass
class Loaded:
    """A version as its folder names it."""

    name: str
    version: str
    dimension: int | None = None

    @property
    def snapshot(self) -> str:
        return f"{self.name}-{self.version}"

    def warm_up(self) -> None:
        pass


def load(directory: Path) -> Servable:
    return Loaded(directory.parent.name, directory.name)  # type: ignore[return-value]


@pytest.fixture
def versions() -> Versions:
    return Versions(load, lambda name, version: Path(name) / version)


async def test_a_version_that_a_restart_would_lose_does_not_serve(versions: Versions) -> None:
    await versions.serve_version("m", "1.0.0")

    def full(model: str, version: str) -> None:
        raise BadModel(f"{model} {version}: no space")

    versions.serves = full
    with pytest.raises(BadModel, match=r"1\.0\.1: no space"):
        await versions.serve_version("m", "1.0.1")
    assert versions.loaded == ["1.0.0"]
    assert versions.serving is not None
    assert versions.serving.version == "1.0.0"


@pytest.mark.parametrize(
    ("name", "version"), [("..", "model"), ("m", "../model"), ("", "1"), ("a/b", "1")]
)
def test_a_version_is_fetched_from_nowhere_else(tmp_path: Path, name: str, version: str) -> None:
    """A folder of this machine is no registered version, whatever it holds."""
    outside = tmp_path / "model"
    outside.mkdir()
    (outside / "MLmodel").touch()
    (tmp_path / "m").mkdir()
    with pytest.raises(BadModel, match="is not a name"):
        fetching(tmp_path / "registered")(name, version)


def test_a_version_that_was_fetched_is_not_fetched_again(tmp_path: Path) -> None:
    kept = tmp_path / "m" / "1.0.0"
    kept.mkdir(parents=True)
    (kept / "manifest.json").touch()
    assert fetching(tmp_path)("m", "1.0.0") == kept


def test_a_bound_that_is_none_is_refused_by_name() -> None:
    parser = argument_parser("serve", "")
    arguments = parser.parse_args(["--model", "m", "--port", "0", "--batch-texts", "0"])
    with pytest.raises(ValueError, match="max_texts is 0, expected 1 or more"):
        settings_of(arguments, {})
