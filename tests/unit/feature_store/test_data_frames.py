"""What ClickHouse's client finds installed, in a process of its own: what is imported stays."""

from __future__ import annotations

import subprocess
import sys

import pytest

START = """
from mlops.feature_store.data_frames import leave_out_data_frames
leave_out_data_frames({others})
from clickhouse_connect.driver import options
print(options.pd, options.np is None)
import sys
print(*[name for name in ("numpy", "pandas", "pyarrow") if sys.modules.get(name)])
"""


@pytest.mark.parametrize(
    ("others", "said"), [("", "None False\nnumpy\n"), ("'numpy'", "None True\n\n")]
)
def test_the_client_finds_no_data_frames_to_import(others: str, said: str) -> None:
    code = START.format(others=others)
    command = [sys.executable, "-W", "ignore::SyntaxWarning", "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == said


@pytest.mark.parametrize("program", ["agent", "gateway.recorder"])
def test_the_long_lived_programs_leave_them_out(program: str) -> None:
    """And start all the same, up to the first wrong file."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['x', '--config', 'there/is/no/such.yaml']\n"
        "try:\n"
        f"    runpy.run_module('{program}', run_name='__main__')\n"
        "except SystemExit as ended:\n"
        "    print(ended.code, sys.modules['pandas'], 'pyarrow' in sys.modules)\n"
    )
    command = [sys.executable, "-W", "ignore::SyntaxWarning", "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["2", "None", "False"], ended.stderr
