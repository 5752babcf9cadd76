"""Tests run the request path as plain Python; `--compiled` runs it as `make accelerate` made it."""

from __future__ import annotations

import os
import sys

import pytest

SWITCH = "GATEWAY_PURE_PYTHON"
OPTION = "--compiled"

# Importing the package decides, and conftest files below this one do so before any hook is called.
# Processes that tests start inherit it.
if OPTION in sys.argv:
    os.environ.pop(SWITCH, None)
else:
    os.environ[SWITCH] = "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        OPTION, action="store_true", help="test the compiled request path (make accelerate)"
    )


def pytest_configure(config: pytest.Config) -> None:
    from gateway.compiled import active  # noqa: PLC0415  the switch had to be set first

    if config.getoption(OPTION) and active() is None:
        raise pytest.UsageError("nothing is compiled from the present sources; make accelerate")
