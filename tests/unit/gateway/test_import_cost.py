"""A gateway starts within 2 s and stays small: it loads none of the heavy libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("mlflow", "airflow", "pandas", "minio", "scipy", "numpy", "chdb", "sqlalchemy")


@pytest.mark.parametrize("module", ["gateway", "gateway.app"])
def test_importing_the_gateway_loads_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-W", "ignore::SyntaxWarning", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert loaded.stdout.split() == []
