"""Which files of a folder are stored."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlops.artifact_store.chunks import sources


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"weights")
    (folder / "tokenizer/vocabulary.txt").write_text("a")
    return folder


def names(folder: Path) -> list[str]:
    return [one.name for one in sources(folder)]


def test_everything_below_it_in_the_order_of_names(model: Path) -> None:
    assert names(model) == ["tokenizer/vocabulary.txt", "weights.bin"]


def test_links_are_followed_to_files_and_to_folders(model: Path, tmp_path: Path) -> None:
    """A cache of models holds little else."""
    (tmp_path / "blobs/index").mkdir(parents=True)
    (tmp_path / "blobs/index/part").write_text("b")
    (model / "index").symlink_to(tmp_path / "blobs/index")
    (model / "part").symlink_to(tmp_path / "blobs/index/part")
    assert names(model) == ["index/part", "part", "tokenizer/vocabulary.txt", "weights.bin"]


def test_a_link_that_leads_nowhere_is_named(model: Path) -> None:
    (model / "adapter.bin").symlink_to("no-such-blob")
    with pytest.raises(FileNotFoundError, match=r"adapter\.bin is a link to no-such-blob"):
        sources(model)


def test_a_link_in_a_circle_is_named(model: Path) -> None:
    (model / "tokenizer/again").symlink_to(model)
    with pytest.raises(ValueError, match=r"tokenizer/again is a link to .*model, which it lies in"):
        sources(model)


def test_a_name_that_is_no_text_is_refused_before_anything_is_sent(model: Path) -> None:
    (Path(os.fsdecode(os.fsencode(model) + b"/caf\xe9.bin"))).write_bytes(b"x")
    with pytest.raises(ValueError, match="is not UTF-8"):
        sources(model)
