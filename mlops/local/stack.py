"""The whole system on one machine: engine, model servers, gateway, recorder and agent."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import msgspec
import yaml

from mlops.feature_store.settings import ClickHouseSettings
from mlops.local.child import is_free
from mlops.local.processes import (
    Command,
    Started,
    StartFailed,
    kill,
    kill_with_children,
    spawn,
    stop,
)

STACK_FILE = "stack.json"
ENV_FILE = "stack.env"
"""The same addresses and secrets as settings: `mlops.config` reads those of `var/up`."""

BUCKET = "rag-artifacts"
_WRAPPED = frozenset({"s3", "mlflow"})
"""Parts that are somebody else's server with a process of ours around it: they die together."""
_TOKENS = (
    "GATEWAY_OPERATOR_TOKEN",
    "GATEWAY_VIEWER_TOKEN",
    "AGENT_OPERATOR_TOKEN",
    "AGENT_VIEWER_TOKEN",
    "MODEL_SERVER_TOKEN",
)
_S3_KEYS = ("MLOPS_MINIO_ACCESS_KEY", "MLOPS_MINIO_SECRET_KEY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where each part listens; 0 takes any free port."""

    gateway: int = 8000
    admin: int = 8001
    agent: int = 8002
    model_a: int = 8011
    model_b: int = 8012
    clickhouse: int = 8123
    s3: int = 9000
    mlflow: int = 5000

    def where_free(self) -> Ports:
        """The same ports, but any other in place of one that somebody listens on."""
        return replace(
            self,
            **{
                one.name: 0
                for one in fields(self)
                if (port := getattr(self, one.name)) and not is_free(port)
            },
        )


ANY_PORTS = Ports(**dict.fromkeys((one.name for one in fields(Ports)), 0))


class StackFile(msgspec.Struct, frozen=True, kw_only=True):
    """What `stack.json` holds. Mode 0600: it has the tokens."""

    directory: str
    processes: tuple[Started, ...]
    secrets: dict[str, str]

    @property
    def addresses(self) -> dict[str, str]:
        """By part; `admin` is the gateway's second one."""
        found: dict[str, str] = {}
        for process in self.processes:
            if not process.urls:
                continue
            found[process.name] = process.urls[0]
            if process.name == "gateway":
                found["admin"] = process.urls[1]
        return found


def settings_of(addresses: Mapping[str, str]) -> dict[str, str]:
    """Where the parts are, as the settings that name them; a part that is not there has none."""
    found: dict[str, str] = {}
    for part, name in _SETTING_OF.items():
        if part in addresses:
            found[name] = addresses[part]
    if "clickhouse" in addresses:
        host, _, port = addresses["clickhouse"].removeprefix("http://").partition(":")
        found |= {"MLOPS_CLICKHOUSE_HOST": host, "MLOPS_CLICKHOUSE_PORT": port}
    if "s3" in addresses:
        endpoint = addresses["s3"].removeprefix("http://")
        found |= {"MLOPS_MINIO_ENDPOINT": endpoint, "MLOPS_MINIO_BUCKET_NAME": BUCKET}
    return found


_SETTING_OF = {
    "mlflow": "MLOPS_MLFLOW_TRACKING_URI",
    "admin": "MLOPS_GATEWAY_ADMIN_URLS",
    "agent": "MLOPS_AGENT_URL",
    "model-a": "MLOPS_MODEL_POOL_A",
    "model-b": "MLOPS_MODEL_POOL_B",
}


def remove_files(directory: Path) -> None:
    """Forget a stack that has ended."""
    for name in (STACK_FILE, ENV_FILE):
        (directory / name).unlink(missing_ok=True)


def read_stack(directory: Path) -> StackFile | None:
    """The stack that was started in `directory`, running or not; None if there is none."""
    path = directory / STACK_FILE
    if not path.exists():
        return None
    return msgspec.json.decode(path.read_bytes(), type=StackFile)


@dataclass(slots=True)
class Stack:
    """A running stack. Parts are started one by one, each after what it needs.

    Every part's address is read from its `ready` line, so any port may be 0.
    """

    directory: Path
    ports: Ports
    environ: Mapping[str, str] = field(repr=False)
    """What the processes inherit; the composition root passes its own."""
    secrets: dict[str, str] = field(
        default_factory=lambda: {name: secrets.token_urlsafe(24) for name in (*_TOKENS, *_S3_KEYS)},
        repr=False,
    )
    on_ready: Callable[[str], None] = lambda _: None
    """Told each part that answers, by its name."""
    processes: list[Started] = field(default_factory=list)
    _taken: dict[str, int] = field(default_factory=dict)
    """Ports of parts that have run: started again, a part comes back where it was."""

    # ---- parts ---------------------------------------------------------------------------------

    def start_clickhouse(self) -> str:
        """The embedded engine, with its tables made."""
        return self.begin_clickhouse()()

    def begin_clickhouse(self) -> Callable[[], str]:
        """Start the engine, and give what waits until it is ready and makes its tables."""
        port = str(self._port("clickhouse", self.ports.clickhouse))
        path = str(self.directory / "clickhouse")
        ready = self._begin(
            "clickhouse", "mlops.local.clickhouse", ["--path", path, "--port", port]
        )

        def migrated() -> str:
            # Who only asks where a stack is must not wait for ClickHouse's client.
            from mlops.feature_store.migrations import migrate  # noqa: PLC0415

            url = ready()
            asyncio.run(migrate(self.clickhouse))
            return url

        return migrated

    def begin_s3(self) -> Callable[[], str]:
        """Start the S3 server, and give what waits until it is ready."""
        port = str(self._port("s3", self.ports.s3))
        path = str(self.directory / "s3")
        return self._begin(
            "s3", "mlops.local.s3", ["--path", path, "--port", port, "--bucket", BUCKET]
        )

    def begin_mlflow(self) -> Callable[[], str]:
        """The same for MLflow; its files go to the S3 server, which must be ready."""
        port = str(self._port("mlflow", self.ports.mlflow))
        path = str(self.directory / "mlflow")
        return self._begin("mlflow", "mlops.local.mlflow_server", ["--path", path, "--port", port])

    @property
    def clickhouse(self) -> ClickHouseSettings:
        """How to reach the engine once it runs."""
        return ClickHouseSettings.parse(self.environment())

    def start_model(self, name: str, model: Path, port: int, *, faults: Sequence[str] = ()) -> str:
        """One model server; with `faults`, the same server inside the fault-injecting wrapper."""
        return self.begin_model(name, model, port, faults=faults)()

    def begin_model(
        self, name: str, model: Path, port: int, *, faults: Sequence[str] = ()
    ) -> Callable[[], str]:
        """The same, giving what waits until it is ready."""
        module = "mlops.serving.faults" if faults else "mlops.serving"
        return self._begin(
            name, module, ["--model", str(model), "--port", str(self._port(name, port)), *faults]
        )

    def start_gateway(self, routes: Sequence[Mapping[str, object]], workers: int = 1) -> str:
        """Serve `routes` (as in the gateway's file) from so many processes."""
        config = {
            "listen": f"127.0.0.1:{self._port('gateway', self.ports.gateway)}",
            "admin": {
                "listen": f"127.0.0.1:{self._port('admin', self.ports.admin)}",
                "tokens": {
                    "operator": {"env": "GATEWAY_OPERATOR_TOKEN"},
                    "viewer": {"env": "GATEWAY_VIEWER_TOKEN"},
                },
            },
            "workers": workers,
            "state": str(self.directory / "gateway"),
            "spool": {"dir": str(self.directory / "spool"), "limit": "1GiB"},
            "routes": list(routes),
        }
        return self._start(
            "gateway", "gateway", ["--config", str(self._write("gateway.yaml", config))]
        )

    def start_recorder(self, *options: str) -> str:
        """From the gateway's spool to ClickHouse; `options` of its command line."""
        file = str(self.directory / "gateway.yaml")
        return self._start("recorder", "gateway.recorder", ["--config", file, *options])

    def start_agent(self) -> str:
        """With its memory in SQLite, for the one gateway; its address."""
        config = {
            "listen": f"127.0.0.1:{self._port('agent', self.ports.agent)}",
            "memory": f"sqlite:///{self.directory / 'agent.sqlite'}",
            "gateways": [
                {"url": self.addresses["admin"], "token": {"env": "GATEWAY_OPERATOR_TOKEN"}}
            ],
            "tokens": {
                "operator": {"env": "AGENT_OPERATOR_TOKEN"},
                "viewer": {"env": "AGENT_VIEWER_TOKEN"},
            },
        }
        return self._start("agent", "agent", ["--config", str(self._write("agent.yaml", config))])

    # ---- life ----------------------------------------------------------------------------------

    @property
    def addresses(self) -> dict[str, str]:
        """Of the parts that run, by their names."""
        return self.file.addresses

    @property
    def file(self) -> StackFile:
        """What is written down of it."""
        return StackFile(
            directory=str(self.directory), processes=tuple(self.processes), secrets=self.secrets
        )

    def process(self, name: str) -> Started:
        """The part of that name. Raises StopIteration where none runs."""
        return next(process for process in self.processes if process.name == name)

    def kill(self, name: str) -> None:
        """End one process as a crash would (SIGKILL), and forget it."""
        process = self.process(name)
        if name in _WRAPPED:
            kill_with_children(process)
        else:
            kill(process)
        self._reap()
        self.processes.remove(process)

    def stop(self) -> list[str]:
        """End everything, last started first; returns the names that had to be killed."""
        killed = stop(self.processes, self._reap)
        self.processes.clear()
        remove_files(self.directory)
        return killed

    def environment(self) -> dict[str, str]:
        """What each process is started with: ours, the secrets, and where ClickHouse is."""
        environment = dict(self.environ) | self.secrets
        # Two threads of linear algebra on a shared core cost half a second at the 95th percentile.
        environment["OPENBLAS_NUM_THREADS"] = "1"
        environment["PYTHONUNBUFFERED"] = "1"
        return environment | settings_of(self.addresses)

    def _start(self, name: str, module: str, arguments: Sequence[str]) -> str:
        return self._begin(name, module, arguments)()

    def _begin(self, name: str, module: str, arguments: Sequence[str]) -> Callable[[], str]:
        command = Command(name=name, arguments=[module, *arguments], environment=self.environment())
        spawned = spawn(command, self.directory)
        self.processes.append(spawned.started())  # so that it is ended also if it never is ready

        def ready() -> str:
            try:
                started = spawned.ready()
            except StartFailed:
                self.processes.remove(self.process(name))
                raise
            self.processes[self.processes.index(self.process(name))] = started
            self._taken |= {
                part: int(url.rpartition(":")[2])
                for part, url in self.addresses.items()
                if part not in self._taken
            }
            self._save()
            self.on_ready(name)
            return started.urls[0] if started.urls else ""

        return ready

    def _port(self, part: str, asked: int) -> int:
        return self._taken.get(part, asked)

    def _write(self, name: str, content: object) -> Path:
        path = self.directory / name
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    def _save(self) -> None:
        path = self.directory / STACK_FILE
        path.touch(mode=0o600)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self.file)))
        settings = settings_of(self.addresses) | self.secrets
        (self.directory / ENV_FILE).touch(mode=0o600)
        (self.directory / ENV_FILE).write_text(
            "".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8"
        )

    def _reap(self) -> None:
        """Collect our ended children, so that an ended process does not linger as a zombie."""
        for process in self.processes:
            try:
                os.waitpid(process.pid, os.WNOHANG)
            except ChildProcessError:
                continue
