"""Whatever writes can be tried first: a command has `--dry-run`, or is known to write nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cli.main import main
from mlops.contracts.plan import RoutePlan, Slot
from mlops.deployment.errors import NotDeployable
from mlops.deployment.way_back import WayBack, gone_back

READS = {
    "archive check", "archive ls", "artifacts lifecycle show", "artifacts list",
    "artifacts presign", "completion", "config", "context list", "doctor", "drift", "explain",
    "judge", "release history", "release list", "release replay", "release status", "spool cat",
    "spool ls", "spool verify", "status", "validate", "weights get",
}  # fmt: skip
SERVES = {"gateway", "recorder", "agent", "model-server", "clickhouse", "demo"}
"""They run until they are ended; `validate` tries their files. `demo` ends what it started."""


def leaves(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for each in command.list_commands(context):
            inner = command.get_command(context, each)
            assert inner is not None
            yield from leaves(inner, f"{name} {each}".strip())
    else:
        yield name, command


EVERY = dict(leaves(main))


def test_every_command_that_writes_can_be_tried_first() -> None:
    """A new command is put among READS, or gets the option."""
    tried = {
        name
        for name, command in EVERY.items()
        if any("--dry-run" in parameter.opts for parameter in command.params)
    }
    assert set(EVERY) - tried == READS | SERVES
    assert not tried & (READS | SERVES)


def test_every_command_answers_programs_too() -> None:
    """But those that serve; `completion` prints a script for a shell."""
    silent = {
        name
        for name, command in EVERY.items()
        if not any("--output" in parameter.opts for parameter in command.params)
    }
    assert silent == SERVES - {"demo"} | {"completion"}


def test_up_says_where_it_would_listen_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(main, ["up", "--dry-run"])
    assert said.exit_code == 0, said.output
    assert "gateway      127.0.0.1:" in said.output
    assert list(tmp_path.iterdir()) == []


def test_train_says_what_it_would_make(tmp_path: Path) -> None:
    (tmp_path / "1.0.0").mkdir()
    said = CliRunner().invoke(main, ["train", "--out", str(tmp_path), "--dry-run"])
    assert "1.0.0\t" in said.output
    assert said.output.count("would be trained") == 2
    assert [one.name for one in tmp_path.iterdir()] == ["1.0.0"]


def slot(version: str) -> Slot:
    return Slot(version=version, endpoints=("http://127.0.0.1:1",))


def plan(stable: str = "1", **more: Any) -> RoutePlan:
    return RoutePlan(route="rag", generation=7, salt="s", stable=slot(stable), **more)


def test_a_rollback_would_take_the_canary_away() -> None:
    after = gone_back(plan(canary=slot("2"), canary_share_bp=1000), WayBack.STABLE)
    assert (after.generation, after.stable.version, after.canary) == (8, "1", None)


def test_a_rollback_would_undo_a_promotion() -> None:
    promoted = plan("2", previous=slot("1"))
    for way in WayBack:
        assert gone_back(promoted, way).stable.version == "1"


def test_a_rollback_would_change_nothing_twice() -> None:
    for done in (plan(), plan(previous=slot("0"), hold=True)):
        assert gone_back(done, WayBack.STABLE) is done


def test_without_a_previous_version_there_is_nothing_to_undo() -> None:
    with pytest.raises(NotDeployable, match="no previous version"):
        gone_back(plan(canary=slot("2")), WayBack.PREVIOUS)
