"""Files of a spool: whose they are, and what is left where making one fails half-way."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.spool import segments

WORKER = "0-5991d1479747"
SEGMENT_BYTES = 256 * 1024


@pytest.mark.parametrize(
    "other", ["lost+found", ".snapshot", "gateway", "0-", "x-5991d1479747", "0-5991D1479747.old"]
)
def test_a_directory_that_no_worker_made_is_none_of_ours(tmp_path: Path, other: str) -> None:
    """A file system of the spool's own has `lost+found`, which only root may look into."""
    for name in (WORKER, other):
        (tmp_path / name).mkdir()
        segments.segment_path(tmp_path / name, 1).write_bytes(bytes(100))
    assert segments.workers_of(tmp_path) == [WORKER]
    with segments.locked(tmp_path) as usage:
        assert usage.count() == 100


def _out_of_descriptors(*_: object, **__: object) -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _out_of_memory(*_: object, **__: object) -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.parametrize(
    ("name", "failure"),
    [("os.open", _out_of_descriptors), ("gateway.spool.segments.mmap", _out_of_memory)],
    ids=["no descriptor is left", "no memory is left"],
)
def test_a_segment_that_cannot_be_mapped_now_can_be_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, failure: Callable[..., object]
) -> None:
    segments.make_segment(tmp_path, 1, SEGMENT_BYTES)
    with monkeypatch.context() as out_of_it:
        out_of_it.setattr(name, failure)
        with pytest.raises(OSError, match=r"open files|memory"):
            segments.map_segment(tmp_path, 1, lambda: None)
    assert list(tmp_path.iterdir()) == []
    segments.make_segment(tmp_path, 1, SEGMENT_BYTES)
    segments.map_segment(tmp_path, 1, lambda: None).close()
    assert segments.segments_of(tmp_path) == [1]
