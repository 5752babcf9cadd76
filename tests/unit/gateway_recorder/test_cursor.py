"""The cursor's file, and what a power cut may leave of it."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from gateway.recorder.cursor import BadCursor, Cursor, Range, load, save
from gateway.recorder.untold import Untold
from gateway.spool.reader import Position

FIRST = Cursor(pending=(Range(Position(), Position(0, 4096)),))
ACKNOWLEDGED = Cursor(done=Position(0, 4096), last_second=7)


@pytest.mark.parametrize("durable", [True, False])
def test_what_was_saved_is_loaded(tmp_path: Path, *, durable: bool) -> None:
    path = tmp_path / "cursor"
    assert load(path) == Cursor()
    for cursor in (FIRST, ACKNOWLEDGED):
        save(path, cursor, durable=durable)
        assert load(path) == cursor
    assert [entry.name for entry in tmp_path.iterdir()] == ["cursor"]


@pytest.mark.parametrize("durable", [True, False])
def test_the_content_is_on_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, durable: bool
) -> None:
    """The real calls, watched: a disk may keep a rename and lose what was not synced before it."""
    path = tmp_path / "cursor"
    save(path, FIRST, durable=True)
    synced: list[tuple[int, bytes, Cursor]] = []
    sync = os.fdatasync

    def watched(descriptor: int) -> None:
        sync(descriptor)
        link = Path(f"/proc/self/fd/{descriptor}")
        synced.append((link.stat().st_ino, link.read_bytes(), load(path)))

    monkeypatch.setattr(os, "fdatasync", watched)
    save(path, ACKNOWLEDGED, durable=durable)
    ((inode, content, named),) = synced
    assert inode == path.stat().st_ino
    assert content == path.read_bytes()
    assert named == FIRST


def test_an_empty_file_is_no_cursor(tmp_path: Path) -> None:
    path = tmp_path / "cursor"
    path.touch()
    with pytest.raises(BadCursor, match="not a cursor"):
        load(path)


def test_a_disk_that_takes_a_part_only_leaves_the_cursor_before(tmp_path: Path) -> None:
    """It says how much it took, and fails only when asked to take the rest."""
    path = tmp_path / "cursor"
    save(path, FIRST, durable=True)
    long = Cursor(untold=tuple(Untold(second, ("rag", "stable", 1), 1) for second in range(200)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            save(path, long, durable=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load(path) == FIRST
