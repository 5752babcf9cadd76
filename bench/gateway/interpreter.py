"""Which Python runs the servers that are written in it: Debian's, as are nginx and HAProxy.

It is built with profile-guided and link-time optimisation, like those of the official container
images; one that was compiled on this machine without (pyenv's default) costs a request 5 % more.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field

DEBIAN = "/usr/bin/python3"
ASK_S = 30
"""Longest wait for a Python to say its version."""

_ASK = "import sys; print(sys.implementation.cache_tag, sys.version.split()[0])"


@dataclass(frozen=True, slots=True)
class Interpreter:
    program: str
    version: str
    environ: Mapping[str, str] = field(default_factory=dict)
    """With which it finds the packages installed here."""


def choose(program: str = DEBIAN) -> Interpreter:
    """`program`, if the packages installed for the Python that runs this fit it; else this one."""
    here = Interpreter(sys.executable, sys.version.split()[0])
    try:
        command = [program, "-c", _ASK]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=ASK_S)
    except (OSError, subprocess.SubprocessError):
        return here
    cache_tag, version = done.stdout.split()
    if cache_tag != sys.implementation.cache_tag:
        return here
    return Interpreter(program, version, {"PYTHONPATH": sysconfig.get_path("platlib")})
