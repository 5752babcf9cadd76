"""How each server is started: ours, its peers, and the upstreams behind them."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.gateway.interpreter import Interpreter

CONFIGS = Path(__file__).parent / "configs"

BODY = b'{"query_text": "what is the convolution of two sequences", "user_id": "u", "top_k": 5}'
CHAT = b'{"model": "m", "messages": [{"role": "user", "content": "what is a convolution"}]}'

SPOOL = 'spool: {dir: "@dir@/@name@-spool", limit: 6GiB}'
"""Nothing reads it here; it takes more than the longest run writes, so that nothing is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What is started, and the request it is measured with."""

    name: str
    command: list[str]
    port: int
    directory: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    path: str = "/query"
    body: bytes = BODY
    ready_s: float = 20.0
    """Longest wait for its first answer."""
    admin_port: int = 0
    """Of our own gateway: where it tells its counters."""


class Fleet:
    """Makes servers of one directory, all in front of one upstream."""

    def __init__(
        self,
        directory: Path,
        programs: Mapping[str, Path],
        upstream_port: int,
        interpreter: Interpreter,
    ) -> None:
        self._directory = directory
        self._programs = programs
        self._upstream_port = upstream_port
        self._interpreter = interpreter

    def has(self, peer: str) -> bool:
        return peer in self._programs

    def clean(self) -> None:
        """Remove what gateways that have ended have recorded."""
        for spool in self._directory.glob("*-spool"):
            shutil.rmtree(spool)
        for log in self._directory.glob("*.log"):
            log.unlink()

    def in_front_of(self, port: int) -> Fleet:
        """The same servers in front of another upstream."""
        return Fleet(self._directory, self._programs, port, self._interpreter)

    def _program(self, peer: str) -> str:
        return str(self._programs[peer])

    def _config(self, template: str, name: str, **values: str | int) -> str:
        """A config written from `configs/`; its path."""
        text = _text_of(template)
        known = {"dir": self._directory, "upstream": self._upstream_port, "name": name, **values}
        path = self._directory / name
        path.write_text(_filled(text, known), encoding="utf-8")
        return str(path)

    def _nginx(self, name: str, port: int, template: str, **values: str | int) -> Server:
        body = _filled(_text_of(template), values)
        file = name.replace(" ", "_")
        config = self._config("nginx.conf", f"{file}.conf", body=body, port=port)
        errors = str(self._directory / f"{file}.err")
        return Server(
            name=name,
            command=[self._program("nginx"), "-c", config, "-e", errors],
            port=port,
            directory=self._directory,
        )

    # ---- upstreams ----------------------------------------------------------------------------

    def small_answers(self) -> Server:
        """nginx itself answers: the cheapest upstream there is."""
        return self._nginx("upstream", self._upstream_port, "nginx_upstream.conf")

    def streams(self) -> Server:
        """Event streams and long bodies, see `upstream`."""
        port = self._upstream_port
        return Server(
            name="streams",
            command=[*self._python("bench.gateway.upstream"), str(port)],
            port=port,
            directory=self._directory,
            environ=self._interpreter.environ,
        )

    # ---- proxies ------------------------------------------------------------------------------

    def gateway(self, name: str = "gateway", *, records: bool = True, workers: int = 1) -> Server:
        port, admin = free_port(), free_port()
        spool = SPOOL if records else ""
        # A state of its own: a stored plan would win over the file, and name another upstream.
        file = f"gateway-{port}"
        config = self._config(
            "gateway.yaml", file, port=port, admin=admin, workers=workers, spool=spool
        )
        return Server(
            name=name,
            command=[*self._python("gateway"), "--config", config],
            port=port,
            directory=self._directory,
            environ=self._interpreter.environ,
            admin_port=admin,
        )

    def nginx(self, *, logs: bool, buffers: bool = True) -> Server:
        log = _text_of("nginx_log.conf") if logs else ""
        name = "nginx + log of bodies" if logs else "nginx"
        buffering = "on" if buffers else "off"
        return self._nginx(name, free_port(), "nginx_split.conf", log=log, buffering=buffering)

    def haproxy(self) -> Server:
        port = free_port()
        config = self._config("haproxy.cfg", "haproxy.cfg", port=port)
        return self._server("haproxy", port, [self._program("haproxy"), "-db", "-f", config])

    def envoy(self, *, logs: bool = False, bodies: bool = False) -> Server:
        """`logs`: as it comes, in the background, 64 KiB or ten seconds at a time, without bodies.
        `bodies`: a line with the body as soon as it is made, which is what the others do.
        """
        port = free_port()
        name = "envoy + log of bodies" if bodies else "envoy + access log" if logs else "envoy"
        config = self._config(
            "envoy.yaml",
            f"{name.replace(' ', '_')}.yaml",
            port=port,
            log=_text_of("envoy_log.yaml") if logs or bodies else "",
            bodies=_text_of("envoy_bodies.yaml") if bodies else "",
            body=', body: "%DYNAMIC_METADATA(log:body)%"' if bodies else "",
        )
        command = [self._program("envoy"), "-c", config, "--concurrency", "1", "-l", "error"]
        command += ["--use-dynamic-base-id", "--disable-hot-restart"]
        command += ["--file-flush-min-size-kb", "0"] if bodies else []
        return self._server(name, port, command)

    def traefik(self) -> Server:
        port = free_port()
        self._config("traefik_routes.yaml", "traefik_routes.yaml")
        config = self._config("traefik.yaml", "traefik.yaml", port=port)
        command = [self._program("traefik"), f"--configFile={config}"]
        return self._server("traefik", port, command, GOMAXPROCS="1")

    def caddy(self) -> Server:
        port = free_port()
        config = self._config("Caddyfile", "Caddyfile", port=port)
        command = [self._program("caddy"), "run", "--adapter", "caddyfile", "--config", config]
        home = {"HOME": str(self._directory), "XDG_DATA_HOME": str(self._directory)}
        return self._server("caddy", port, command, GOMAXPROCS="1", **home)

    def vllm_router(self) -> Server:
        port, metrics = free_port(), free_port()
        upstreams = [f"http://{host}:{self._upstream_port}" for host in ("127.0.0.1", "localhost")]
        command = [self._program("vllm-router"), "--worker-urls", *upstreams]
        command += ["--policy", "random", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--prometheus-port", str(metrics)]
        server = self._server("vllm-router", port, command, TOKIO_WORKER_THREADS="1")
        return _asking(server, "/v1/chat/completions", CHAT, ready_s=60)

    def litellm(self) -> Server:
        port = free_port()
        config = self._config("litellm.yaml", "litellm.yaml")
        command = [self._program("litellm"), "--config", config, "--host", "127.0.0.1"]
        command += ["--port", str(port), "--num_workers", "1"]
        environ = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
            "LITELLM_TELEMETRY": "False",
        }
        server = self._server("litellm", port, command, **environ)
        return _asking(server, "/v1/chat/completions", CHAT, ready_s=120)

    def aiohttp(self) -> Server:
        port = free_port()
        program = self._python("bench.gateway.aiohttp_proxy")
        command = [*program, str(port), str(self._upstream_port)]
        return self._server("aiohttp proxy", port, command, **self._interpreter.environ)

    def _python(self, module: str) -> list[str]:
        return [self._interpreter.program, "-W", "ignore::SyntaxWarning", "-m", module]

    def _server(self, name: str, port: int, command: list[str], **environ: str) -> Server:
        return Server(
            name=name, command=command, port=port, directory=self._directory, environ=environ
        )


def _asking(server: Server, path: str, body: bytes, *, ready_s: float) -> Server:
    return replace(server, path=path, body=body, ready_s=ready_s)


def _text_of(template: str) -> str:
    return (CONFIGS / template).read_text(encoding="utf-8")


def _filled(text: str, values: Mapping[str, object]) -> str:
    # Twice: a value such as the body of nginx's config has places to fill too.
    for _ in range(2):
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
    return text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
