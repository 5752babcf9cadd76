"""What the gateway's benchmark reads and writes: configs, wrk's words, percentiles, open loops."""

from __future__ import annotations

import platform
import sys
import sysconfig
from pathlib import Path

import msgspec
import pytest

from bench.gateway.client import Connection, OpenLoop, Stream
from bench.gateway.interpreter import Interpreter, choose
from bench.gateway.plan import alternate, ratio
from bench.gateway.servers import Fleet, Server
from bench.gateway.timing import summary
from bench.gateway.wrk import Round, read_round
from gateway.config import parse

HERE = Interpreter(sys.executable, platform.python_version())

PEERS = ("nginx", "haproxy", "envoy", "traefik", "caddy", "vllm-router", "litellm")

WRK = """
Running 2s test @ http://127.0.0.1:1/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.40ms    1.02ms  99.00ms   99%
    Req/Sec    50.12k     3.11k   55.10k    70.00%
  Latency Distribution
     50%    1.21ms
     75%    1.60ms
     90%  900.00us
     99%    3.54ms
  100231 requests in 2.00s, 29.50MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 7
Requests/sec:  50101.05
Transfer/sec:     14.75MB
"""


@pytest.fixture
def servers(tmp_path: Path) -> list[Server]:
    fleet = Fleet(tmp_path, {name: Path(f"/bin/{name}") for name in PEERS}, 4711, HERE)
    return [
        fleet.small_answers(),
        fleet.gateway(),
        fleet.gateway("bare", records=False, workers=2),
        fleet.nginx(logs=True),
        fleet.nginx(logs=False, buffers=False),
        fleet.haproxy(),
        fleet.envoy(logs=True),
        fleet.envoy(logs=False),
        fleet.envoy(bodies=True),
        fleet.traefik(),
        fleet.caddy(),
        fleet.vllm_router(),
        fleet.litellm(),
        fleet.aiohttp(),
    ]


def test_no_config_has_a_place_left_to_fill(servers: list[Server], tmp_path: Path) -> None:
    written = [path for path in tmp_path.iterdir() if path.is_file()]
    assert len(written) >= 11
    for path in written:
        text = path.read_text()
        places = ("@dir@", "@port@", "@upstream@", "@log@", "@body@", "@bodies@")
        assert not [place for place in places if place in text]
        assert "4711" in text or "upstream" in path.name or path.name == "traefik.yaml"


def test_the_gateways_file_is_one(servers: list[Server], tmp_path: Path) -> None:
    recording, bare = (parse(Path(each.command[-1]).read_text(), {}) for each in servers[1:3])
    assert recording.spool is not None
    assert bare.spool is None
    assert (recording.workers, bare.workers) == (1, 2)
    assert recording.state_dir != bare.state_dir
    assert recording.routes[0].canary_share_bp == 1000


def test_envoys_file_is_yaml_with_and_without_a_log(servers: list[Server], tmp_path: Path) -> None:
    for name, has_log, filters in (
        ("envoy.yaml", False, ["router"]),
        ("envoy_+_access_log.yaml", True, ["router"]),
        ("envoy_+_log_of_bodies.yaml", True, ["lua", "router"]),
    ):
        config = msgspec.yaml.decode((tmp_path / name).read_text())
        manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
        assert ("access_log" in manager["typed_config"]) is has_log
        names = [
            each["name"].rpartition(".")[2] for each in manager["typed_config"]["http_filters"]
        ]
        assert names == filters


def test_wrks_percentiles_are_not_those_of_its_thread_table() -> None:
    found = read_round(WRK, seconds=2.0, cpu_s=1.0, kernel_s=0.5)
    assert (found.requests, found.errors) == (100_231, 10)
    assert (found.p50_ms, found.p99_ms) == (1.21, 3.54)
    assert found.cpu_us == pytest.approx(9.977, abs=0.001)
    assert found.busy == 0.5


def test_ratios_are_within_rounds() -> None:
    turns: list[str] = []
    found = alternate(3, {"a": "a", "b": "b"}, lambda name: turns.append(name) or len(turns))  # type: ignore[dict-item,func-returns-value]
    assert turns == ["a", "b"] * 3
    assert found == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert ratio(found["a"], found["b"], float) == 0.75


def test_percentiles() -> None:
    found = summary([number * 1000 for number in range(1, 1001)])
    assert (found["p50_us"], found["p99_us"], found["worst_us"]) == (501, 991, 1000)
    assert summary([])["count"] == 0


def test_answers_are_told_apart_by_their_lengths() -> None:
    answered: list[bytes] = []
    connection = Connection(lambda it: answered.append(it.status))
    one = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345"
    two = b"HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    for byte in one:
        connection.data_received(bytes([byte]))
    connection.data_received(two)
    assert answered == [b"200", b"503"]


def test_an_open_loop_times_from_when_a_request_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = [0]
    monkeypatch.setattr("bench.gateway.client.monotonic_ns", lambda: now_ns[0])

    class Transport:
        def write(self, data: bytes) -> None:
            """Nobody reads it."""

    loop = OpenLoop(1000, 0.004, "/")
    only = Connection(loop.answered)
    only.transport, only.status = Transport(), b"200"  # type: ignore[assignment]
    loop.start([only])
    loop.tick()
    now_ns[0] = 3_000_000  # three more have become due, and the connection is taken
    loop.tick()
    for _ in range(4):
        loop.answered(only)
    assert loop.latencies_ns == [3_000_000, 2_000_000, 1_000_000, 0]
    assert loop.unanswered == loop.errors == 0


def test_events_are_timed_wherever_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.gateway.client.monotonic_ns", lambda: 1_000)
    stream = b"".join(b'9\r\ndata: {"t": %d, "x": 1}\n\n\r\n' % at for at in (100, 200, 300))
    for size in (1, 7, 1000):
        first: list[int] = []
        late: list[int] = []
        ended: list[int] = []
        reader = Stream(first, late, lambda ended=ended: ended.append(1))  # type: ignore[misc]
        whole = stream + b"0\r\n\r\n"
        for at in range(0, len(whole), size):
            reader.data_received(whole[at : at + size])
        assert (first, late, ended) == ([900], [900, 800, 700], [1])


def test_a_round_says_what_it_was() -> None:
    found = Round(1000, 0, 1.0, 0.02, 0.01, 1.0, 2.0)
    assert "20.00 us" in str(found)


def _python_that_says(where: Path, cache_tag: str) -> str:
    program = where / "python"
    program.write_text(f"#!/bin/sh\necho {cache_tag} 3.99.1\n")
    program.chmod(0o755)
    return str(program)


def test_another_python_runs_the_servers_where_our_packages_fit_it(tmp_path: Path) -> None:
    program = _python_that_says(tmp_path, str(sys.implementation.cache_tag))
    packages = sysconfig.get_path("platlib")
    assert choose(program) == Interpreter(program, "3.99.1", {"PYTHONPATH": packages})


def test_our_python_runs_the_servers_where_our_packages_do_not_fit(tmp_path: Path) -> None:
    assert choose(_python_that_says(tmp_path, "cpython-399")) == HERE
    assert choose(str(tmp_path / "none")) == HERE
