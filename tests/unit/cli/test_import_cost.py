"""What somebody types at 03:00 starts at once: it waits for no library that it does not use."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "numpy", "scipy", "pandas", "pyarrow", "mlflow", "minio", "clickhouse_connect", "sqlalchemy",
    "chdb",
}  # fmt: skip


@pytest.mark.parametrize("module", ["cli.main", "cli.traffic", "cli.release", "cli.contexts"])
def test_a_command_that_asks_gateways_or_agent_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert set(done.stdout.split()) & HEAVY == set()
