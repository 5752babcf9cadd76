"""The spool as a person sees it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from cli.main import main
from cli.spool_records import UnreadableRecord, UnstoredExchange, shown
from gateway.record import ExchangeRecord
from gateway.recorder.cursor import Cursor, save
from gateway.settings import SpoolSettings
from gateway.spool import segments
from gateway.spool.encoding import encode_exchange
from gateway.spool.format import HEADER_BYTES, MIN_LIMIT_BYTES, Frame, RecordType
from gateway.spool.reader import Position, SpooledRecord, WorkerReader
from gateway.spool.writer import SpoolWriter
from gateway.stamp import Stamp
from mlops.contracts.tally import Tally
from tests.exchanges import recorded, stamp

SECRET = "the body of a request"


def encoded(**changes: Any) -> bytes:
    body = bytearray()
    encode_exchange(recorded(**changes), 5, body)
    return bytes(body)


def record(request_id: str) -> ExchangeRecord:
    return recorded(
        request_id=request_id.encode(),
        request_body=SECRET.encode(),
        response_body=b"an answer",
    )


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SpoolWriter]:
    opened = SpoolWriter.open(SpoolSettings(dir=tmp_path / "spool"))
    for number in range(3):
        assert opened.offer(record(f"r{number}"))
    assert opened.offer_tally(Tally(worker=opened.worker, second=7))
    yield opened
    opened.close()


def run(command: str, writer_or_path: Any, *arguments: str) -> Result:
    directory = writer_or_path._preparer._spool
    return CliRunner().invoke(main, ["spool", command, "--dir", str(directory), *arguments])


def test_ls_names_workers_and_what_lies_there(writer: SpoolWriter) -> None:
    assert re.match(rf"{writer.worker}  alive  [23] segments  ", run("ls", writer).output)
    writer.close()
    (state,) = json.loads(run("ls", writer, "-o", "json").output)
    assert state == {
        "worker": writer.worker,
        "alive": False,
        "segments": 1,
        "bytes": 2 * 2**20,
        "acknowledged": "1-64",
        "on_its_way": 0,
        "problem": "",
    }


def test_cat_prints_no_body_unless_asked(writer: SpoolWriter) -> None:
    for output in ("text", "json"):
        result = run("cat", writer, "-o", output)
        assert result.output.count("\n") == 4
        assert "r0" in result.output
        assert SECRET not in result.output
        assert SECRET in run("cat", writer, "-o", output, "--bodies").output


def test_cat_says_what_a_record_holds(writer: SpoolWriter) -> None:
    lines = [json.loads(line) for line in run("cat", writer, "-o", "json").output.splitlines()]
    assert [line["sequence"] for line in lines] == [1, 2, 3, 4]
    assert (lines[0]["route"], lines[0]["outcome"], lines[0]["status"]) == ("rag", "ok", 200)
    assert lines[3]["tally"]["second"] == 7
    limited = run("cat", writer, "-o", "json", "--limit", "2").output
    assert len(limited.splitlines()) == 2


def test_cat_prints_what_the_reference_says(writer: SpoolWriter) -> None:
    without = {"missing_before", "request_body", "response_body"}
    fields = set(UnstoredExchange.__struct_fields__)
    for more, expected in (((), fields - without), (("--bodies",), fields - {"missing_before"})):
        first, *_ = run("cat", writer, "-o", "json", *more).output.splitlines()
        assert set(json.loads(first)) == expected


@pytest.mark.parametrize(
    ("kind", "body", "why"),
    [
        (RecordType.EXCHANGE, b"\xc1", "exchange of 1 bytes"),
        (RecordType.TALLY, b"\xc1", "tally of 1 bytes"),
        (RecordType.EXCHANGE, encoded(outcome=200), "index out of range"),
    ],
)
def test_what_cannot_be_read_is_said(kind: int, body: bytes, why: str) -> None:
    frame = Frame(offset=64, end=80, body=body, sequence=5, kind=kind)
    found = shown("w", SpooledRecord(frame, segment=1, missing=2, end=Position(1, 80)), bodies=True)
    assert isinstance(found, UnreadableRecord)
    assert (found.sequence, found.missing_before, found.bytes) == (5, 2, len(body))
    assert why in found.unreadable


def test_cat_of_an_unknown_worker_names_those_there_are(writer: SpoolWriter) -> None:
    result = run("cat", writer, "--worker", "9-nobody")
    assert result.exit_code == 1
    assert writer.worker in result.output


def test_verify_tells_whole_from_damaged(writer: SpoolWriter) -> None:
    whole = run("verify", writer)
    assert (whole.exit_code, "whole  3 exchanges, 1 tallies" in whole.output) == (0, True)
    writer.close()
    path = segments.segment_path(Path(writer._preparer._spool) / writer.worker, 1)
    data = bytearray(path.read_bytes())
    data[data.index(b"r1")] ^= 1
    path.write_bytes(data)
    result = run("verify", writer)
    assert result.exit_code == 1
    assert "DAMAGED  2 exchanges, 1 tallies; 1 missing; cut at 1-" in result.output
    (report,) = json.loads(run("verify", writer, "-o", "json").output)
    assert (report["missing"], report["whole"]) == (1, False)


def test_the_gateway_s_file_names_the_spool(writer: SpoolWriter, tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(
        f"spool: {{dir: {tmp_path / 'spool'}}}\n"
        "routes: [{name: rag, match: {prefix: /},"
        ' stable: {version: "1", endpoints: ["http://127.0.0.1:1"]}}]\n'
    )
    result = CliRunner().invoke(main, ["spool", "ls", "--config", str(path)])
    assert writer.worker in result.output


def test_one_place_is_asked_for() -> None:
    result = CliRunner().invoke(main, ["spool", "ls"])
    assert result.exit_code == 2
    assert "give one of --dir and --config" in result.output


def test_an_exchange_says_all_that_its_stamp_does() -> None:
    encoded_stamp = stamp(endpoint="http://a:1", first_attempt_endpoint="http://b:1")
    body = encoded(stamp=encoded_stamp)
    frame = Frame(offset=64, end=80, body=body, sequence=5, kind=RecordType.EXCHANGE)
    kept = SpooledRecord(frame, segment=1, missing=0, end=Position(1, 80))
    said = msgspec.to_builtins(shown("w", kept, bodies=False))
    expected = msgspec.json.decode(encoded_stamp)
    assert set(expected) == set(Stamp.__struct_fields__)
    assert {name: said.get(name) for name in expected} == expected


def test_a_recorder_that_acknowledges_meanwhile_damages_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records 1 to 4, of five in three segments, are stored and wiped while they are read."""
    opened = SpoolWriter.open(SpoolSettings(dir=tmp_path, limit_bytes=MIN_LIMIT_BYTES))
    for _ in range(5):
        while not opened.offer(recorded(request_body=bytes(100_000))):
            assert set(opened.dropped) == {"not_ready"}
            time.sleep(0.01)
    opened.close()
    ends = [found.end for found in WorkerReader(tmp_path, opened.worker).read(5, final=True)]
    assert [end.segment for end in ends] == [1, 1, 2, 2, 3]
    read = WorkerReader.read

    def beside_a_recorder(reader: WorkerReader, limit: int, *, final: bool) -> list[SpooledRecord]:
        monkeypatch.setattr(WorkerReader, "read", read)
        found = reader.read(1, final=final)
        cursor = tmp_path / opened.worker / segments.CURSOR_NAME
        save(cursor, Cursor(done=ends[3]), durable=False)
        segments.remove_segments(tmp_path, opened.worker, [1])
        path = segments.segment_path(tmp_path / opened.worker, 2)
        segments.wipe(path, HEADER_BYTES, ends[3].offset)
        return found

    monkeypatch.setattr(WorkerReader, "read", beside_a_recorder)
    result = run("verify", opened, "-o", "json")
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.output)
    assert (report["exchanges"], report["missing"], report["whole"]) == (1, 0, True)
