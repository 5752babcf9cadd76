"""Servers and load for the gateway's benchmark: nginx twice, our gateway, wrk."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from urllib.request import urlopen

LOAD_CORE = 0
PROXY_CORE = 1
CONNECTIONS = 64
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

ANSWER = '{"answer": "42", "documents": ["a", "b", "c"], "relevance_score": 0.5}'

LUA = """
local sent = 0
request = function()
  sent = sent + 1
  return wrk.format("POST", "/query",
    {["content-type"] = "application/json", ["x-user-id"] = "user-" .. sent % 10000},
    '{"query_text": "what is the convolution of two sequences", "user_id": "u", "top_k": 5}')
end
"""

COMMON = """
worker_processes 1; daemon off; pid {dir}/{name}.pid; error_log {dir}/{name}.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
"""

UPSTREAM = """
  server {{ listen 127.0.0.1:{port};
    location / {{ default_type application/json; return 200 '{answer}'; }} }} }}
"""

# The log is not buffered: what the gateway promises of its spool (a killed worker loses no answered
# request) nginx gives only when it writes each line.
SPLIT = """
  split_clients $http_x_user_id $arm {{ 10% canary; * stable; }}
  upstream stable {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}
  upstream canary {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000000; }}
  log_format rows escape=json '{{"id":"$request_id","at":"$time_iso8601","arm":"$arm",'
    '"status":$status,"latency":$request_time,"first_byte":"$upstream_header_time",'
    '"sent":$bytes_sent,"user":"$http_x_user_id","body":"$request_body"}}';
  server {{ listen 127.0.0.1:{port}; access_log {dir}/rows.log rows;
    location / {{ proxy_pass http://$arm; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; proxy_set_header X-Request-Id $request_id;
      add_header X-Served-By $arm; }} }} }}
"""

GATEWAY = """
listen: 127.0.0.1:{port}
admin: {{listen: "127.0.0.1:{admin}"}}
state: {dir}/state
spool: {{dir: {dir}/spool, limit: 512MiB}}
routes:
  - name: bench
    match: {{prefix: /}}
    stable: {{version: "1", endpoints: ["http://127.0.0.1:{upstream}"]}}
    canary: {{version: "2", endpoints: ["http://127.0.0.1:{upstream}"], weight: 10}}
    sticky: {{header: x-user-id}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], core: int, port: int) -> Iterator[int]:
    """A process pinned to one core, until the block ends; its pid."""
    process = subprocess.Popen(["taskset", "-c", str(core), *command], stdout=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    ends_s = monotonic() + 20
    while monotonic() < ends_s:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            with urlopen(f"http://127.0.0.1:{port}/", timeout=2):
                return
        except OSError:
            sleep(0.05)
    raise RuntimeError(f"{process.args!r} did not answer on port {port} within 20 s")


def _nginx(directory: Path, name: str, body: str, values: Mapping[str, str | int]) -> list[str]:
    config = directory / f"{name}.conf"
    text = (COMMON + body).format(dir=directory, name=name, **values)
    config.write_text(text, encoding="utf-8")
    return ["nginx", "-c", str(config), "-e", str(directory / f"{name}.err")]


def upstream(directory: Path, port: int) -> list[str]:
    return _nginx(directory, "upstream", UPSTREAM, {"port": port, "answer": ANSWER})


def nginx_split(directory: Path, port: int, upstream_port: int) -> list[str]:
    return _nginx(directory, "split", SPLIT, {"port": port, "upstream": upstream_port})


def gateway(directory: Path, port: int, upstream_port: int) -> list[str]:
    config = directory / "gateway.yaml"
    config.write_text(
        GATEWAY.format(dir=directory, port=port, admin=free_port(), upstream=upstream_port),
        encoding="utf-8",
    )
    ignore = "ignore::SyntaxWarning"
    return [sys.executable, "-W", ignore, "-m", "gateway", "--config", str(config)]


@dataclass(frozen=True, slots=True)
class Round:
    requests: int
    errors: int
    cpu_us: float
    p50_ms: float
    p99_ms: float


def load(directory: Path, port: int, pid: int, seconds: int) -> Round:
    """Drive one proxy for `seconds`, and charge it the CPU time of its whole process tree."""
    script = directory / "load.lua"
    script.write_text(LUA, encoding="utf-8")
    before = cpu_s(pid)
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    command += ["--latency", "-s", str(script), f"http://127.0.0.1:{port}/"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    used_s = cpu_s(pid) - before
    requests = int(re.findall(r"(\d+) requests in", out)[0])
    bad = re.findall(r"Socket errors: (.*)|Non-2xx or 3xx responses: (\d+)", out)
    errors = sum(int(number) for pair in bad for number in re.findall(r"\d+", " ".join(pair)))
    latency = out.partition("Latency Distribution")[2]
    return Round(
        requests,
        errors,
        used_s * 1e6 / max(requests, 1),
        _milliseconds(latency, "50%"),
        _milliseconds(latency, "99%"),
    )


def _milliseconds(text: str, percentile: str) -> float:
    number, unit = re.findall(percentile + r"\s+([\d.]+)(us|ms|s)", text)[0]
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text(encoding="ascii").split():
            found += tree(int(child))
    return found


def cpu_s(pid: int) -> float:
    total = 0
    for each in tree(pid):
        fields = Path(f"/proc/{each}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def rss_mib(pid: int) -> float:
    """The greatest resident set of one process of the tree, without what is mapped from files."""
    best = 0
    for each in tree(pid):
        status = Path(f"/proc/{each}/status").read_text(encoding="ascii")
        best = max(best, int(re.findall(r"VmRSS:\s+(\d+)", status)[0]))
    return best / 1024
