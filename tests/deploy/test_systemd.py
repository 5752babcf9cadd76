"""The units of deploy/systemd fit the programs that they start."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cli.init import Answers, agent_file, gateway_file
from cli.main import main
from gateway.config import parse
from gateway.crew import KILL_AFTER_S

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
PROGRAM = "/opt/rag-mlops/.venv/bin/rag-mlops"


def values(unit: Path) -> dict[str, str]:
    lines = unit.read_text(encoding="utf-8").splitlines()
    return dict(re.findall(r"^(\w+)=(.*)$", "\n".join(lines), re.MULTILINE))


def test_there_is_a_unit_for_each_process() -> None:
    assert [unit.stem for unit in UNITS] == [
        f"rag-mlops-{name}" for name in ("agent", "gateway", "recorder")
    ]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_what_is_started_is_a_command_of_ours(unit: Path, tmp_path: Path) -> None:
    program, name, *words = shlex.split(values(unit)["ExecStart"])
    assert program == PROGRAM
    command = main.get_command(click.Context(main), name)
    assert command is not None
    file = tmp_path / Path(words[words.index("--config") + 1]).name
    file.touch()
    command.make_context(name, [str(file) if word.startswith("/etc") else word for word in words])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_nobody_has_more_rights_than_needed(unit: Path) -> None:
    found = values(unit)
    assert (found["User"], found["CapabilityBoundingSet"], found["NoNewPrivileges"]) == (
        "rag-mlops", "", "yes",
    )  # fmt: skip
    assert (found["ProtectSystem"], found["ProtectHome"]) == ("strict", "yes")


def test_what_the_files_name_lies_where_may_be_written() -> None:
    """Relative to the folder that systemd makes for the state."""
    for unit in UNITS:
        found = values(unit)
        assert found["WorkingDirectory"] == f"/var/lib/{found['StateDirectory']}"
    answers = Answers(stable="http://127.0.0.1:8011", version="1", sticky_header="")
    settings = parse(gateway_file(answers), {})
    assert settings.spool is not None
    assert not settings.state_dir.is_absolute()
    assert not settings.spool.dir.is_absolute()
    assert "sqlite:///var/" in agent_file()


def test_a_gateway_has_time_to_end_what_is_under_way() -> None:
    gateway = next(unit for unit in UNITS if unit.stem.endswith("gateway"))
    settings = parse(gateway_file(Answers(stable="http://a:1", version="1", sticky_header="")), {})
    assert float(values(gateway)["TimeoutStopSec"]) > settings.drain_s + KILL_AFTER_S + 10
    assert values(gateway)["OOMPolicy"] == "continue"


def complaints(unit: Path) -> list[str]:
    """Of systemd about this unit; those about units of the machine are not ours."""
    if shutil.which("systemd-analyze") is None:
        return []
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return [line for line in said.stderr.splitlines() if unit.name in line]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_them(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text(encoding="utf-8").replace(PROGRAM, f'"{sys.executable}"')
    here, wrong = tmp_path / unit.name, tmp_path / f"wrong-{unit.name}"
    here.write_text(text, encoding="utf-8")
    wrong.write_text(text.replace("Restart=always", "Restart=sometimes"), encoding="utf-8")
    if not complaints(wrong):
        pytest.skip("systemd is not here, or looks at no units in this place")
    assert complaints(here) == []
