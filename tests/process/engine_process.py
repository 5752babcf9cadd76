"""The embedded ClickHouse as a process that tests kill, stop and start again."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import clickhouse_connect

from mlops.feature_store.settings import ClickHouseSettings

ENGINE = (sys.executable, "-W", "ignore::SyntaxWarning", "-m", "mlops.local.clickhouse")


class EngineProcess:
    """One engine on one directory, killed and started again at will."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen[str] | None = None
        self.port = 0
        """Free the first time, the same ever after, so that clients find it again."""

    @property
    def settings(self) -> ClickHouseSettings:
        return ClickHouseSettings(host="127.0.0.1", port=self.port)

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*ENGINE, "--path", str(self.directory), "--port", str(self.port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready http://127.0.0.1:"), line
        self.port = int(line.rsplit(":", 1)[1])

    def end(self, number: signal.Signals) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        code = self.process.wait(timeout=20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        client = clickhouse_connect.get_client(
            host="127.0.0.1",
            port=self.settings.port,
            database=self.settings.database,
            autogenerate_session_id=False,
        )
        try:
            return [tuple(row) for row in client.query(sql).result_rows]
        finally:
            client.close()
