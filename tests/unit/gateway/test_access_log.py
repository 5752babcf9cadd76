"""Lines of JSON in a real file; what they may hold, and what is lost where it cannot be written."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway import access_log
from gateway.access_log import AccessLog, Line
from gateway.stamp import Stamp

STAMP = msgspec.json.encode(
    Stamp(
        route="rag",
        model="m",
        generation=7,
        share_bp=1000,
        arm="canary",
        served_arm="stable",
        version="1.2.3",
        profile="auto",
        endpoint="http://10.0.0.7:8000",
    )
)
LANE: Any = SimpleNamespace(stamp_of=lambda exchange: STAMP)
TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"


def exchange(**changed: object) -> Any:
    values = {
        "request_id": b"id-1",
        "traceparent": b"00-%b-00f067aa0ba902b7-01" % TRACE,
        "headers": {b"authorization": b"Bearer secret", b"x-user-id": b"somebody"},
        "kind": 0,
        "method": b"POST",
        "target": b"/query?api_key=secret",
        "started_at_us": 1_700_000_000_000_000,
        "status": 200,
        "outcome": 0,
        "attempts": 1,
        "latency_us": 12_345,
        "first_byte_us": 11_000,
        "own_ns": 40_000,
        "request_bytes": 10,
        "response_bytes": 20,
        "events": 0,
        "request_body": b"secret",
        "response_body": b"secret",
    }
    return SimpleNamespace(**{**values, **changed})


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(access_log, "FLUSH_S", 0.001)
    return tmp_path / "access.log"


def lines(path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_what_happened_and_nothing_secret(path):
    log = AccessLog(str(path))
    log.note(exchange(), LANE)
    log.close()
    (line,) = lines(path)
    assert line == {
        "time": "2023-11-14T22:13:20Z",
        "request_id": "id-1",
        "trace_id": TRACE.decode(),
        "route": "rag",
        "arm": "canary",
        "served_arm": "stable",
        "version": "1.2.3",
        "endpoint": "http://10.0.0.7:8000",
        "generation": 7,
        "kind": "served",
        "method": "POST",
        "path": "/query",
        "status": 200,
        "outcome": "ok",
        "attempts": 1,
        "duration_ms": 12.345,
        "first_byte_ms": 11.0,
        "gateway_ms": 0.04,
        "request_bytes": 10,
        "response_bytes": 20,
        "events": 0,
    }
    assert list(line) == list(Line.__struct_fields__)
    assert "secret" not in path.read_text()
    assert "somebody" not in path.read_text()


def test_the_file_is_not_for_everybody(path):
    AccessLog(str(path)).close()
    assert path.stat().st_mode & 0o007 == 0


def test_lines_of_several_processes_share_a_file(path):
    logs = [AccessLog(str(path)) for _ in range(3)]
    for number in range(300):
        logs[number % 3].note(exchange(request_id=b"%d" % number), LANE)
    for log in logs:
        log.close()
    assert {line["request_id"] for line in lines(path)} == {str(number) for number in range(300)}


def test_the_queue_has_a_bound_and_what_is_past_it_is_counted(path, monkeypatch):
    monkeypatch.setattr(access_log, "FLUSH_S", 60)
    monkeypatch.setattr(access_log, "MAX_WAITING", 5)
    log = AccessLog(str(path))
    for number in range(8):
        log.note(exchange(request_id=b"%d" % number), LANE)
    assert log.dropped == 3
    log.close()
    assert [line["request_id"] for line in lines(path)] == ["0", "1", "2", "3", "4"]


def test_a_file_that_was_moved_away_is_opened_anew(path):
    log = AccessLog(str(path))
    log.note(exchange(request_id=b"before"), LANE)
    log._write_waiting()
    path.rename(path.with_suffix(".1"))
    log.note(exchange(request_id=b"after"), LANE)
    log._write_waiting()
    log.close()
    assert [line["request_id"] for line in lines(path.with_suffix(".1"))] == ["before"]
    assert [line["request_id"] for line in lines(path)] == ["after"]


def test_lines_that_cannot_be_written_are_counted(path, caplog):
    log = AccessLog(str(path))
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log._file)
    os.close(full)
    log._follow_rotation = lambda: None  # type: ignore[method-assign]
    log.note(exchange(), LANE)
    log.close()
    assert log.dropped == 1
    assert "1 lines were lost" in caplog.text


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(OSError, match=r"missing/access\.log"):
        AccessLog(str(tmp_path / "missing" / "access.log"))
