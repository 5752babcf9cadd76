"""Airflow on this machine: its four parts as processes, its REST API, and their end.

On loopback only, with a password of its own, no telemetry and no example pipelines. Everything it
writes lies in one folder, which also tells its processes from any others.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from mlops.local.child import free_ports

WORKERS: Final = 2
READY_TIMEOUT_S: Final = 240.0
"""Four Python programs that import Airflow at the same time; on a busy machine over a minute."""
CALL_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.5
ENDED: Final = frozenset({"success", "failed"})
_USER: Final = "operator"


class AirflowFailed(RuntimeError):
    """A part of Airflow ended or did not come up."""


@dataclass(slots=True)
class Airflow:
    """One installation, running.

    `environment` is what tasks find: the settings of the stack that they work on.
    """

    home: Path
    binary: Path
    """Folder with the programs of Airflow's own virtual environment."""
    project: Path
    """Folder that holds `dags/`."""
    environment: Mapping[str, str] = field(repr=False)
    workers: int = WORKERS
    """Tasks that run at the same time."""
    url: str = ""
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _password: str = field(default="", repr=False)
    _token: str = field(default="", repr=False)
    _environment: dict[str, str] = field(default_factory=dict, repr=False)

    def start(self) -> None:
        """Make the database, start the parts, and wait until all of them are healthy.

        Raises:
            AirflowFailed: one did not come up; the message names its log.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._password = secrets.token_urlsafe(18)
        passwords = self.home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({_USER: self._password}), encoding="utf-8")
        self._environment = self._settings(port, passwords)
        self._migrate()
        for part, arguments in (
            ("api-server", ("--host", "127.0.0.1", "--port", str(port), "--workers", "1")),
            ("scheduler", ("--skip-serve-logs",)),
            ("dag-processor", ()),
            ("triggerer", ("--skip-serve-logs",)),
        ):
            self._processes[part] = self._run(part, part, *arguments)
        self.wait_until(self._healthy, READY_TIMEOUT_S, "Airflow is not healthy")

    def run(self, dag: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """Let the pipeline run, and ask for one run of it."""
        self.unpause(dag)
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        self.insist("POST", f"dags/{dag}/dagRuns", body)

    def unpause(self, dag: str) -> None:
        """Let its runs be scheduled, once its file has been read."""
        self.wait_for_dag(dag)
        self.insist("PATCH", f"dags/{dag}", {"is_paused": False})

    def wait_for_dag(self, dag: str) -> None:
        """Until its file has been read. Raises AirflowFailed."""
        unknown = f"{dag} is not known to Airflow"
        self.wait_until(lambda: self._get(f"dags/{dag}") is not None, READY_TIMEOUT_S, unknown)

    def insist(self, method: str, path: str, body: object) -> None:
        """One call, again while another part of Airflow writes: its database here is SQLite.

        What was there already (409) is taken for what an earlier try has made.

        Raises:
            AirflowFailed: it was never taken.
            urllib.error.HTTPError: the call is wrong.
        """

        def is_taken() -> bool:
            try:
                self.call(method, path, body)
            except urllib.error.HTTPError as error:
                if error.code == HTTPStatus.CONFLICT:
                    return True
                if error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise
                return False
            except OSError:  # no answer in time
                return False
            return True

        self.wait_until(is_taken, READY_TIMEOUT_S, f"{method} {path} is not taken")

    def state(self, dag: str, run_id: str) -> str:
        """`queued`, `running`, `success` or `failed`; empty where there is no such run."""
        found = self._get(f"dags/{dag}/dagRuns/{quote(run_id, safe='')}")
        return str(found["state"]) if found else ""

    def wait(self, dag: str, run_id: str, timeout_s: float) -> str:
        """Until the run has ended; how it did.

        Raises:
            AirflowFailed: it has not, or a part of Airflow has ended.
        """
        what = f"{dag} {run_id} has not ended"
        self.wait_until(lambda: self.state(dag, run_id) in ENDED, timeout_s, what)
        return self.state(dag, run_id)

    def tasks(self, dag: str, run_id: str) -> list[dict[str, Any]]:
        """The run's tasks in the order of their beginning, each with what it said."""
        run = f"dags/{dag}/dagRuns/{quote(run_id, safe='')}"
        found: list[dict[str, Any]] = self.call("GET", f"{run}/taskInstances")["task_instances"]
        for task in found:
            task["said"] = self._said(f"{run}/taskInstances/{task['task_id']}/xcomEntries")
        return sorted(found, key=lambda task: task["start_date"] or "9")

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One call of the REST API. Raises urllib.error.HTTPError."""
        if not self._token:
            login = {"username": _USER, "password": self._password}
            self._token = self._request("POST", "/auth/token", login)["access_token"]
        return self._request(method, f"/api/v2/{path}", body)

    def stop(self) -> None:
        """End every process that runs with or in our folder; safe to repeat."""
        deadline_s, number = time.monotonic() + STOP_TIMEOUT_S, signal.SIGTERM
        while members := list(_with_home(self.home)):
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            if time.monotonic() > deadline_s:
                number = signal.SIGKILL
            time.sleep(0.1)
            self._reap()
        for process in self._processes.values():
            process.wait(STOP_TIMEOUT_S)  # one that is just ending has no environment any more
        self._processes.clear()

    def wait_until(self, holds: Callable[[], bool], timeout_s: float, what: str) -> None:
        """An API that does not answer in time is asked again.

        Raises:
            AirflowFailed: the time has passed, or a part has ended.
        """
        deadline_s = time.monotonic() + timeout_s
        while not _in_time(holds):
            for part, process in self._processes.items():
                if process.poll() is not None:
                    raise AirflowFailed(f"{part} has ended; see {self._log(part)}")
            if time.monotonic() > deadline_s:
                raise AirflowFailed(f"{what} after {timeout_s:g} s; logs: {self.home / 'logs'}")
            time.sleep(POLL_S)

    # ---- parts ----------------------------------------------------------------------------------

    def _migrate(self) -> None:
        process = self._run("migrate", "db", "migrate")
        try:
            code = process.wait(READY_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.stop()
            code = process.wait()
        if code:
            raise AirflowFailed(f"migrate ended with code {code}; see {self._log('migrate')}")

    def _settings(self, port: int, passwords: Path) -> dict[str, str]:
        ours = {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.project / "dags"),
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(self.workers),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{_USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            "PYTHONPATH": str(self.project),
        }
        return dict(self.environment) | ours

    def _run(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        self._log(name).parent.mkdir(exist_ok=True)
        with self._log(name).open("ab") as log:
            return subprocess.Popen(  # noqa: S603  Airflow's own program
                [str(self.binary / "airflow"), *arguments],
                env=self._environment,
                cwd=self.home,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _log(self, part: str) -> Path:
        return self.home / "parts" / f"{part}.log"

    def _healthy(self) -> bool:
        try:
            found = self._request("GET", "/api/v2/monitor/health", None)
        except (OSError, ValueError):
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((found.get(part) or {}).get("status") == "healthy" for part in parts)

    def _get(self, path: str) -> Any:
        """None where there is no such thing."""
        try:
            return self.call("GET", path)
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            raise

    def _said(self, entries: str) -> str:
        """The sentence that a task returned, or the one with which it was skipped."""
        for key in ("return_value", "stopped"):
            entry = self._get(f"{entries}/{key}")
            value = entry["value"] if entry else None
            with suppress(ValueError, TypeError):
                value = json.loads(value) if isinstance(value, str) else value
            if isinstance(value, dict) and "sentence" in value:
                return str(value["sentence"])
        return ""

    def _request(self, method: str, path: str, body: object) -> Any:
        request = urllib.request.Request(  # noqa: S310  loopback, an address of our own making
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"},
        )
        with urllib.request.urlopen(request, timeout=CALL_TIMEOUT_S) as answer:  # noqa: S310
            return json.loads(answer.read())

    def _reap(self) -> None:
        for process in self._processes.values():
            process.poll()


def _in_time(holds: Callable[[], bool]) -> bool:
    try:
        return holds()
    except TimeoutError:
        return False


def _with_home(home: Path) -> Iterable[int]:
    """Processes of ours that live: their environment names the folder, or they work in it.

    The API server writes its title over its environment.
    """
    mark = f"AIRFLOW_HOME={home}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if state == "Z":
                continue
            if (entry / "cwd").readlink() == home or mark in _environment(entry):
                yield int(entry.name)


def _environment(entry: Path) -> list[bytes]:
    return (entry / "environ").read_bytes().split(b"\0")
