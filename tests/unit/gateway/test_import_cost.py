"""A gateway starts within 2 s and stays small: it loads none of the heavy libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("mlflow", "airflow", "pandas", "minio", "scipy", "numpy", "chdb", "sqlalchemy")


NOT_A_WORKERS = ("aiohttp", "prometheus_client", "yaml", "multidict", "gateway.config")
"""The admin port and the file are the supervisor's business; in a worker they are only memory."""


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("gateway", HEAVY),
        ("gateway.app", HEAVY),
        ("gateway.worker", HEAVY + NOT_A_WORKERS),
    ],
)
def test_importing_a_process_loads_nothing_that_it_does_not_need(
    module: str, unwanted: tuple[str, ...]
) -> None:
    program = f"import sys, {module}; print(*sorted(set({unwanted!r}) & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore::SyntaxWarning", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert loaded.stdout.split() == []
