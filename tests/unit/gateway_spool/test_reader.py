"""Whatever a crash left, a reader comes through it, and says what it gave up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest

from gateway.record import ExchangeRecord
from gateway.spool import segments
from gateway.spool.encoding import encode_exchange
from gateway.spool.format import (
    FRAME,
    SEAL,
    BadSegment,
    aligned,
    encode_header,
)
from gateway.spool.reader import Position, WorkerReader

WORKER = "0-feedbeef"
SEGMENT_BYTES = 64 * 1024
Exchange = Callable[..., ExchangeRecord]


class Spool:
    """Segments written by hand, so that they can be damaged at will."""

    def __init__(self, directory: Path, exchange: Exchange) -> None:
        self.directory = directory
        self._exchange = exchange
        (directory / WORKER).mkdir()

    def write(self, segment: int, first: int, last: int, *, sealed: bool) -> list[int]:
        """Records `first..last`; the offsets where they start."""
        data = bytearray(encode_header(WORKER, segment))
        offsets = []
        for sequence in range(first, last + 1):
            body = bytearray()
            encode_exchange(self._exchange(), sequence, body)
            offsets.append(len(data))
            data += FRAME.pack(crc32(body), len(body)) + body
            data += bytes(aligned(len(data)) - len(data))
        if sealed:
            data += FRAME.pack(0, SEAL)
        self.path(segment).write_bytes(data.ljust(SEGMENT_BYTES, b"\0"))
        return offsets

    def path(self, segment: int) -> Path:
        return segments.segment_path(self.directory / WORKER, segment)

    def damage(self, segment: int, offset: int) -> None:
        data = bytearray(self.path(segment).read_bytes())
        data[offset] ^= 0xFF
        self.path(segment).write_bytes(data)

    def reader(self, start: Position | None = None) -> WorkerReader:
        return WorkerReader(self.directory, WORKER, start)


@pytest.fixture
def spool(tmp_path: Path, exchange: Exchange) -> Spool:
    return Spool(tmp_path, exchange)


def read_all(reader: WorkerReader) -> list[int]:
    found = []
    while records := reader.read(3, final=True):
        found += [record.frame.sequence for record in records]
    reader.close()
    return found


def test_a_sealed_segment_leads_to_the_next(spool: Spool) -> None:
    spool.write(1, 1, 5, sealed=True)
    spool.write(2, 6, 9, sealed=False)
    assert read_all(spool.reader()) == list(range(1, 10))


def test_reading_goes_on_from_any_record(spool: Spool) -> None:
    spool.write(1, 1, 5, sealed=True)
    spool.write(2, 6, 9, sealed=False)
    first = spool.reader()
    ends = [record.end for record in first.read(100, final=True)]
    first.close()
    for count, end in enumerate(ends, 1):
        assert read_all(spool.reader(end)) == list(range(count + 1, 10))


def test_a_live_worker_s_torn_frame_is_waited_for(spool: Spool) -> None:
    offsets = spool.write(1, 1, 3, sealed=False)
    spool.damage(1, offsets[2] + 40)
    reader = spool.reader()
    assert len(reader.read(100, final=False)) == 2
    assert reader.torn
    spool.damage(1, offsets[2] + 40)  # the writer has finished it
    assert [record.frame.sequence for record in reader.read(100, final=False)] == [3]
    assert not reader.torn
    assert not reader.cuts
    reader.close()


def test_records_written_later_are_seen_later(spool: Spool) -> None:
    spool.write(1, 1, 2, sealed=False)
    reader = spool.reader()
    assert len(reader.read(100, final=False)) == 2
    assert reader.read(100, final=False) == []
    spool.write(1, 1, 4, sealed=True)
    assert len(reader.read(100, final=False)) == 2
    assert reader.read(100, final=False) == []
    spool.write(2, 5, 5, sealed=False)
    assert len(reader.read(100, final=False)) == 1
    reader.close()


def test_a_dead_worker_s_torn_tail_is_cut_and_noted(spool: Spool) -> None:
    offsets = spool.write(1, 1, 3, sealed=False)
    spool.damage(1, offsets[2] + 40)
    reader = spool.reader()
    assert read_all(reader) == [1, 2]
    assert [cut.at for cut in reader.cuts] == [Position(1, offsets[2], 3)]


def test_one_damaged_record_costs_only_itself(spool: Spool) -> None:
    offsets = spool.write(1, 1, 5, sealed=True)
    spool.write(2, 6, 7, sealed=False)
    spool.damage(1, offsets[2] + 40)
    reader = spool.reader()
    assert read_all(reader) == [1, 2, 4, 5, 6, 7]
    assert len(reader.cuts) == 1


def test_a_damaged_length_costs_the_rest_of_its_segment(spool: Spool) -> None:
    """Where the next record starts is not known any more; the gap is visible in the numbers."""
    offsets = spool.write(1, 1, 5, sealed=True)
    spool.write(2, 6, 7, sealed=False)
    spool.damage(1, offsets[2] + 4)
    reader = spool.reader()
    found = reader.read(100, final=True)
    found += reader.read(100, final=True)
    reader.close()
    assert [record.frame.sequence for record in found] == [1, 2, 6, 7]
    assert [record.missing for record in found] == [0, 0, 3, 0]
    assert len(reader.cuts) == 1


@pytest.mark.parametrize("damaged", [None, 1, 3])
def test_a_range_gives_the_same_records_again(spool: Spool, damaged: int | None) -> None:
    """A restarted recorder inserts the range that it had remembered, damage included."""
    offsets = spool.write(1, 1, 5, sealed=True)
    spool.write(2, 6, 9, sealed=False)
    if damaged is not None:
        spool.damage(1, offsets[damaged] + 40)
    first = spool.reader()
    start = first.position
    once = [record.frame for record in first.read(100, final=True)]
    end = first.position
    first.close()
    again = spool.reader(Position(2, 64, 6))
    assert [record.frame for record in again.read_range(start, end)] == once
    assert again.position == end
    again.close()


def test_a_segment_that_is_not_ours_is_refused(spool: Spool) -> None:
    spool.write(1, 1, 2, sealed=False)
    spool.damage(1, 8)
    reader = spool.reader()
    with pytest.raises(BadSegment, match="version"):
        reader.read(1, final=True)
    reader.close()


@pytest.mark.parametrize("place", ["body", "length"])
def test_a_range_gives_no_record_from_behind_it_whatever_changed_in_it(
    spool: Spool, place: str
) -> None:
    """It would be stored again with the next range, where it belongs."""
    offsets = spool.write(1, 1, 6, sealed=True)
    spool.write(2, 7, 9, sealed=False)
    reader = spool.reader()
    whole = reader.read(4, final=True)
    spool.damage(1, offsets[3] + (FRAME.size + 5 if place == "body" else 5))
    found = spool.reader().read_range(Position(), whole[-1].end)
    assert [record.frame.sequence for record in found] == [1, 2, 3]


def test_a_length_that_no_writer_wrote_is_not_read(spool: Spool) -> None:
    """Four gigabytes would have to be allocated for it."""
    offsets = spool.write(1, 1, 3, sealed=True)
    spool.write(2, 4, 5, sealed=False)
    data = bytearray(spool.path(1).read_bytes())
    data[offsets[1] + 4 : offsets[1] + 8] = (0xFFFF_FFF0).to_bytes(4, "little")
    spool.path(1).write_bytes(data)
    reader = spool.reader()
    records = reader.read(10, final=True)
    assert [record.frame.sequence for record in records] == [1, 4, 5]
    assert [record.missing for record in records] == [0, 2, 0]
    assert len(reader.cuts) == 1


def test_a_single_record_that_is_cut_counts_as_missing(spool: Spool) -> None:
    offsets = spool.write(1, 1, 3, sealed=False)
    spool.damage(1, offsets[1] + FRAME.size + 5)
    records = spool.reader().read(10, final=True)
    assert [(record.frame.sequence, record.missing) for record in records] == [(1, 0), (3, 1)]


@pytest.mark.parametrize("left", [0, 8, SEGMENT_BYTES], ids=["empty", "cut short", "zeros"])
def test_a_segment_that_never_reached_the_disk_is_passed_over(spool: Spool, left: int) -> None:
    """A power cut keeps the names of segments whose first page was never written out."""
    spool.write(1, 1, 5, sealed=True)
    spool.path(2).write_bytes(bytes(left))
    spool.write(3, 8, 9, sealed=False)
    reader = spool.reader()
    assert read_all(reader) == [*range(1, 6), 8, 9]
    assert [(cut.at, cut.records) for cut in reader.cuts] == [(Position(2, 0, 6), 0)]


def test_records_behind_a_damaged_header_are_read(spool: Spool) -> None:
    """Each has a checksum and a number of its own."""
    spool.write(1, 1, 5, sealed=True)
    spool.write(2, 6, 9, sealed=False)
    spool.damage(2, 20)
    reader = spool.reader()
    assert read_all(reader) == list(range(1, 10))
    assert [cut.at.segment for cut in reader.cuts] == [2]


def test_what_was_read_comes_again_after_a_rewind_and_so_do_its_cuts(spool: Spool) -> None:
    offsets = spool.write(1, 1, 5, sealed=True)
    spool.damage(1, offsets[1] + 40)
    spool.write(2, 6, 9, sealed=False)
    spool.damage(2, 20)
    reader = spool.reader()
    once = reader.read(100, final=True)
    assert [cut.at.segment for cut in reader.cuts] == [1, 2]
    for record in reversed(once):
        reader.rewind(record.end)
        kept = len(reader.cuts)
        again = reader.read(100, final=True)
        assert once == [*once[: len(once) - len(again)], *again]
        assert len(reader.cuts) == 2, f"{kept} noted, the others once more"
    reader.close()
