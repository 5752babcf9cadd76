"""Every command of the original description works, or stands in the page with what replaces it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SAME = "the same"

COMMANDS = [
    "pip install -r mlops/requirements.txt",
    "python -m pytest mlops/tests/",
    "python -m pytest mlops/tests/ --cov=mlops",
    "black mlops/",
    "flake8 mlops/",
    "mypy mlops/",
    "curl http://localhost:5000/health",
    "curl http://localhost:8080/health",
    "curl http://localhost:8123/ping",
    "curl http://localhost:9000/minio/health/live",
]
"""As the description has them, but for those of docker-compose, which are that file's matter."""


def rows() -> dict[str, tuple[str, str]]:
    """Command to what is done here, and why."""
    page = (ROOT / "docs/library.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## Commands of the original description")
    found = re.findall(r"^\| `([^`]+)` \| (.+?) \| (.*?) ?\|$", section, re.MULTILINE)
    return {command: (here, why) for command, here, why in found}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_listed_and_what_replaces_it_has_a_reason(command: str) -> None:
    here, why = rows()[command]
    assert here.startswith(SAME) or ("`" in here and why)


def test_the_requirements_lead_to_a_lock_that_covers_what_the_library_imports() -> None:
    path = ROOT / "mlops/requirements.txt"
    (line,) = (one for one in path.read_text(encoding="utf-8").splitlines() if one[:1] != "#")
    lock = (path.parent / line.removeprefix("-r ")).resolve()
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock.read_text(encoding="utf-8"), re.MULTILINE))
    assert locked >= {
        "mlflow",
        "minio",
        "clickhouse-connect",
        "zstandard",
        "pytest",
        "mypy",
        "ruff",
    }


def test_the_replacements_name_what_is_here() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = " ".join(here for here, _ in rows().values())
    for target in re.findall(r"`make ([a-z-]+)`", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"(?<=[ =])(tests/|mlops/)(?=[` ])", text):
        assert (ROOT / path).is_dir()
