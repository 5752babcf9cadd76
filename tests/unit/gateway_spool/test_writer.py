"""What was offered is there; what cannot be is dropped, counted, and never in the way."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from mmap import mmap
from pathlib import Path

import pytest

from gateway.record import ExchangeRecord
from gateway.settings import SpoolSettings
from gateway.spool import segments
from gateway.spool.format import MIN_SEGMENT_BYTES, RecordType, decode_exchange
from gateway.spool.reader import WorkerReader
from gateway.spool.writer import SpoolWriter, segment_bytes_for
from mlops.contracts.tally import Tally

SMALL_LIMIT = 16 * MIN_SEGMENT_BYTES
Exchange = Callable[..., ExchangeRecord]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SpoolWriter]:
    writer = SpoolWriter.open(SpoolSettings(dir=tmp_path / "spool", limit_bytes=SMALL_LIMIT))
    yield writer
    writer.close()


def offer_until(writer: SpoolWriter, record: ExchangeRecord, reason: str) -> int:
    """Offer until one is dropped for `reason`; how many were taken. Bounded by the clock."""
    taken, deadline = 0, time.monotonic() + 20
    while time.monotonic() < deadline:
        if writer.offer(record):
            taken += 1
        elif writer.last_drop_reason == reason:
            return taken
        else:
            time.sleep(0.001)
    raise AssertionError(f"no drop for {reason}: {writer.dropped}")


def offer_patiently(writer: SpoolWriter, record: ExchangeRecord) -> None:
    deadline = time.monotonic() + 20
    while not writer.offer(record):
        assert time.monotonic() < deadline, writer.dropped
        time.sleep(0.001)


def used_bytes(spool: Path) -> int:
    """As noted, which must be what is there."""
    with segments.locked(spool) as usage:
        noted = usage.bytes()
        assert usage.count() == noted
        return noted


def sequences(spool: Path, worker: str) -> list[int]:
    reader = WorkerReader(spool, worker)
    found = []
    while records := reader.read(500, final=True):
        found += [record.frame.sequence for record in records]
    reader.close()
    assert not reader.cuts
    return found


def test_what_was_offered_is_read_in_order_over_many_segments(
    writer: SpoolWriter, exchange: Exchange, tmp_path: Path
) -> None:
    record = exchange(request_body=b"q" * 60_000)
    for _ in range(30):
        offer_patiently(writer, record)
    assert writer.offer_tally(Tally(worker=writer.worker, second=5))
    assert sequences(tmp_path / "spool", writer.worker) == list(range(1, 32))
    reader = WorkerReader(tmp_path / "spool", writer.worker)
    kinds = [record.frame.kind for record in reader.read(500, final=True)]
    reader.close()
    assert kinds[0] == RecordType.EXCHANGE
    assert len(segments.segments_of(tmp_path / "spool" / writer.worker)) > 7


def test_a_record_that_fits_no_segment_is_dropped_alone(
    writer: SpoolWriter, exchange: Exchange
) -> None:
    assert not writer.offer(exchange(response_body=bytes(writer.segment_bytes)))
    assert writer.last_drop_reason == "too_large"
    assert writer.offer(exchange())
    assert writer.dropped == {"too_large": 1}


def test_a_record_that_cannot_be_encoded_is_dropped_alone(
    writer: SpoolWriter, exchange: Exchange
) -> None:
    """A bug elsewhere must not cost the client its answer."""
    assert not writer.offer(exchange(latency_us=2**64))
    assert not writer.offer(exchange(request_body=object()))
    assert not writer.offer(ExchangeRecord())
    assert writer.dropped == {"unencodable": 3}
    assert writer.offer(exchange())


def test_records_of_any_size_follow_each_other(
    writer: SpoolWriter, exchange: Exchange, tmp_path: Path
) -> None:
    """They are encoded in the same place, which must hold nothing of the one before."""
    bodies = [bytes([size % 251]) * size for size in (0, 60_000, 7, 2_000, 31, 32, 70_000, 1)]
    for body in bodies:
        offer_patiently(writer, exchange(response_body=body))
    reader = WorkerReader(tmp_path / "spool", writer.worker)
    records = reader.read(500, final=True)
    reader.close()
    assert [decode_exchange(record.frame.body).response_body for record in records] == bodies
    assert all(record.frame.offset % 8 == 0 for record in records)


def test_a_spool_at_its_limit_drops_and_goes_on_when_there_is_space(
    writer: SpoolWriter, exchange: Exchange, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    record = exchange(request_body=b"q" * 60_000)
    taken = offer_until(writer, record, "spool_full")
    assert used_bytes(spool) <= SMALL_LIMIT
    assert len(sequences(spool, writer.worker)) == taken
    segments.remove_segments(spool, writer.worker, range(1, 9))
    offer_patiently(writer, record)
    reader = WorkerReader(spool, writer.worker)
    assert reader.read(1, final=True)[0].missing > 0  # of the segments removed above
    reader.close()


def test_workers_share_one_limit(writer: SpoolWriter, exchange: Exchange, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    second = SpoolWriter.open(SpoolSettings(dir=spool, limit_bytes=SMALL_LIMIT), 1)
    try:
        record = exchange(request_body=b"q" * 60_000)
        offer_until(writer, record, "spool_full")
        offer_until(second, record, "spool_full")
        assert SMALL_LIMIT - MIN_SEGMENT_BYTES < used_bytes(spool) <= SMALL_LIMIT
    finally:
        second.close()


def test_faster_than_segments_are_made_is_dropped_not_waited_for(
    writer: SpoolWriter, exchange: Exchange, tmp_path: Path
) -> None:
    """With the spool's lock held elsewhere no segment can be made: two are ready, then none."""
    record = exchange(request_body=b"q" * 60_000)
    deadline = time.monotonic() + 20
    while len(segments.segments_of(tmp_path / "spool" / writer.worker)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    with segments.locked(tmp_path / "spool"):
        taken = offer_until(writer, record, "not_ready")
        assert taken == 3 * 4
    offer_patiently(writer, record)


def test_nobody_else_can_read_it(writer: SpoolWriter, tmp_path: Path) -> None:
    directory = tmp_path / "spool" / writer.worker
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_a_worker_is_alive_until_it_closes(writer: SpoolWriter, tmp_path: Path) -> None:
    assert segments.is_alive(tmp_path / "spool", writer.worker)
    writer.close()
    assert not segments.is_alive(tmp_path / "spool", writer.worker)


def test_closing_leaves_only_segments_with_records(
    writer: SpoolWriter, exchange: Exchange, tmp_path: Path
) -> None:
    assert writer.offer(exchange())
    writer.close()
    assert segments.segments_of(tmp_path / "spool" / writer.worker) == [1]
    assert not writer.offer(exchange())
    assert writer.last_drop_reason == "closed"
    assert sequences(tmp_path / "spool", writer.worker) == [1]


def touch(memory: mmap, descriptor: int, rest: Callable[[], None]) -> None:
    del descriptor, rest
    segments.touch(memory)


@pytest.mark.parametrize("make_ready", [segments.populate, touch])
def test_writing_to_a_segment_made_ready_faults_no_page(
    make_ready: Callable[[mmap, int, Callable[[], None]], None], tmp_path: Path
) -> None:
    """Both ways, as the first needs a newer kernel."""
    size = 1024**2 + 4096
    path = tmp_path / "segment"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(descriptor, 0, size)
    memory = mmap(descriptor, size)
    make_ready(memory, descriptor, lambda: None)
    os.close(descriptor)
    piece = bytes(64)
    memory[0:64] = piece
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for offset in range(0, size, 4096):
        memory[offset : offset + 64] = piece
    faults = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
    memory.close()
    assert faults < 32, "257 pages were written"


def test_a_limit_too_small_for_any_segment_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 4194304"):
        segment_bytes_for(SMALL_LIMIT - 1)
    assert segment_bytes_for(2 * 1024**3) == 2 * 1024**2


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB and 8 names; skips where mounting is not allowed."""
    directory = tmp_path / "disk"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=9", "tmpfs", str(directory)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=10)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"mount is not allowed: {done.stderr.decode().strip()}")
    yield directory
    subprocess.run(["umount", str(directory)], check=True, timeout=10)


def test_a_full_disk_drops_and_counts(tiny_disk: Path, exchange: Exchange) -> None:
    """Neither an exception nor a SIGBUS, and what was taken before is whole."""
    writer = SpoolWriter.open(SpoolSettings(dir=tiny_disk / "spool", limit_bytes=SMALL_LIMIT))
    try:
        taken = offer_until(writer, exchange(request_body=b"q" * 60_000), "disk_full")
        assert taken > 0
        assert len(sequences(tiny_disk / "spool", writer.worker)) == taken
    finally:
        writer.close()


@pytest.mark.parametrize("left", [0, 1, 2], ids=["no name", "one name", "two names"])
def test_a_worker_starts_on_a_disk_that_is_full_already(
    tiny_disk: Path, exchange: Exchange, left: int
) -> None:
    """A gateway is started, or a worker replaced, where there is no room even for a directory."""
    spool = tiny_disk / "spool"
    SpoolWriter.open(SpoolSettings(dir=spool, limit_bytes=SMALL_LIMIT)).close()
    (dead,) = segments.workers_of(spool)
    fillers = [tiny_disk / f"filler-{number}" for number in range(9)]
    made = []
    with contextlib.suppress(OSError):
        for filler in fillers:
            filler.touch()
            made.append(filler)
    for _ in range(left):
        made.pop().unlink()
    writer = SpoolWriter.open(SpoolSettings(dir=spool, limit_bytes=SMALL_LIMIT))
    try:
        assert not writer.offer(exchange())
        assert writer.dropped == {"disk_full": 1}
        living = {name for name in segments.workers_of(spool) if segments.is_alive(spool, name)}
        assert living == ({writer.worker} if left == 2 else set())
        if left < 2:
            assert segments.workers_of(spool) == [dead], (
                "half a worker would be taken for a dead one"
            )
        for filler in made:
            filler.unlink()
        offer_patiently(writer, exchange())
        assert segments.is_alive(spool, writer.worker)
    finally:
        writer.close()


def test_a_segment_is_let_go_of_in_pieces_with_rests_between(tmp_path: Path) -> None:
    segments.make_segment(tmp_path, 1, 2 * 1024**2)
    memory = segments.map_segment(tmp_path, 1, lambda: None)
    memory[-1] = 1
    open_at_rests: list[bool] = []

    segments.unmap(memory, lambda: open_at_rests.append(not memory.closed))

    assert open_at_rests == [True] * 4
    assert memory.closed
    assert segments.segment_path(tmp_path, 1).read_bytes()[-1] == 1
