"""A partition is begun once, with one plan, and remembers what each step said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from mlops.training.outcomes import Outcome, Step, Stopped, StopReason, Validated
from mlops.training.partition import Partition, PartitionConflict, StepMissing
from mlops.training.plan import Plan, Window

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
WINDOW = Window(since=NOON - timedelta(days=7), until=NOON, as_of=NOON + timedelta(hours=1))
STOP = Stopped(step=Step.VALIDATE, reason=StopReason.ONE_CLASS, sentence="all 300 were good")


def test_beginning_again_with_the_same_plan_changes_nothing(tmp_path: Path) -> None:
    partition = Partition(tmp_path, "2026-01-31")
    partition.begin(Plan(window=WINDOW))
    partition.begin(Plan(window=WINDOW))
    assert partition.plan() == Plan(window=WINDOW)


def test_a_partition_is_never_reused_for_another_plan(tmp_path: Path) -> None:
    partition = Partition(tmp_path, "2026-01-31")
    partition.begin(Plan(window=WINDOW))
    with pytest.raises(PartitionConflict, match="another plan"):
        partition.begin(Plan(window=WINDOW, seed=8))
    assert partition.plan().seed == 7


@pytest.mark.parametrize("name", ["", "..", "../elsewhere", "a/b", ".hidden", "x" * 129])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected up to 128"):
        Partition(tmp_path, name)


def test_a_step_before_its_predecessor_is_a_mistake(tmp_path: Path) -> None:
    partition = Partition(tmp_path, "p")
    with pytest.raises(StepMissing, match="extract"):
        partition.plan()
    with pytest.raises(StepMissing, match="validate"):
        partition.required(Step.VALIDATE)


def test_what_a_step_said_is_read_back_as_it_was(tmp_path: Path) -> None:
    partition = Partition(tmp_path, "p")
    done = Validated(training_pairs=7, validation_pairs=1, held_out_pairs=2, dropped={"x": 1})
    partition.finish(Step.VALIDATE, done)
    assert partition.outcome(Step.VALIDATE) == done
    assert partition.stopped() is None
    partition.finish(Step.EVALUATE, STOP)
    assert partition.stopped() == STOP


def test_every_outcome_is_told_from_the_others_in_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(STOP), type=Outcome) == STOP


@pytest.mark.parametrize(
    "change",
    [
        {"since": NOON},
        {"as_of": NOON - timedelta(seconds=1)},
        {"until": NOON.replace(tzinfo=None)},
    ],
)
def test_a_window_that_cannot_be_is_refused(change: dict[str, datetime]) -> None:
    with pytest.raises(ValueError, match="window"):
        replace(WINDOW, **change)


def test_equal_plans_have_equal_digests() -> None:
    assert Plan(window=WINDOW).digest == Plan(window=WINDOW).digest
    assert Plan(window=WINDOW).digest != Plan(window=WINDOW, champion="1.2.0").digest
