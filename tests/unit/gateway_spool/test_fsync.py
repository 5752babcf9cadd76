"""What was offered is written out once an interval has passed, and each byte once."""

from __future__ import annotations

from collections.abc import Callable
from mmap import mmap
from pathlib import Path

import pytest

from gateway.record import ExchangeRecord
from gateway.settings import SpoolSettings
from gateway.spool import segments
from gateway.spool.fsync import Syncer
from gateway.spool.writer import SpoolWriter


class Disk:
    """A clock, a segment being written, and what was written out."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.memory: mmap | None = mmap(-1, 4096)
        self.at = 64
        self.synced: list[tuple[mmap, int, int]] = []
        self.broken = False
        self.syncer = Syncer(1.0, lambda: (self.memory, self.at), self.sync, lambda: self.now_s)

    def sync(self, memory: mmap, start: int, end: int) -> None:
        if self.broken:
            raise OSError(5, "broken")
        self.synced.append((memory, start, end))

    def later(self, seconds: float, at: int) -> None:
        self.now_s += seconds
        self.at = at
        self.syncer.sync_if_due()


def test_nothing_is_written_out_before_the_interval_has_passed() -> None:
    disk = Disk()
    disk.later(0.5, 100)
    assert disk.synced == []
    assert disk.syncer.wait_s(None) == pytest.approx(0.5)
    assert disk.syncer.wait_s(0.25) == 0.25


def test_each_byte_is_written_out_once() -> None:
    disk = Disk()
    for at in (100, 100, 300):
        disk.later(1.0, at)
    first = disk.memory
    assert disk.synced == [(first, 0, 100), (first, 100, 300)]


def test_a_segment_is_whole_on_disk_before_it_is_let_go() -> None:
    disk = Disk()
    disk.later(1.0, 100)
    first = disk.memory
    assert first is not None
    disk.memory = mmap(-1, 4096)
    disk.syncer.finish_segment(first)
    disk.later(1.0, 80)
    assert disk.synced == [(first, 0, 100), (first, 100, 4096), (disk.memory, 0, 80)]


def test_what_the_disk_refuses_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    disk.broken = True
    for at in (100, 200):
        disk.later(1.0, at)
    disk.broken = False
    disk.later(1.0, 300)
    assert disk.synced == [(disk.memory, 0, 300)]
    assert len(caplog.records) == 1


def test_without_a_segment_there_is_nothing_to_do() -> None:
    disk = Disk()
    disk.memory = None
    disk.later(2.0, 0)
    assert disk.synced == []


def test_a_writer_writes_out_all_it_was_offered(
    tmp_path: Path, exchange: Callable[..., ExchangeRecord]
) -> None:
    """Through the real call, over several segments, and to the last byte at the end."""
    ends: dict[int, int] = {}

    def counted(memory: mmap, start: int, end: int) -> None:
        segments.sync(memory, start, end)
        ends[int.from_bytes(memory[12:16], "little")] = end

    settings = SpoolSettings(dir=tmp_path / "spool", limit_bytes=16 * 1024**2, fsync_s=0.05)
    writer = SpoolWriter.open(settings)
    writer._preparer.syncer = Syncer(0.05, writer._written, counted)
    for number in range(60):
        while not writer.offer(exchange(request_id=b"%d" % number, request_body=b"q" * 50_000)):
            pass
    written = segments.segments_of(tmp_path / "spool" / writer.worker)
    writer.close()
    used = [number for number in written if number in ends]
    assert len(used) >= 3
    assert {ends[number] for number in used} == {writer.segment_bytes}
